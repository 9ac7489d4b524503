"""Which vectors of a layer numbers are taken from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layerscope.config import Positions, Readout


@dataclass(frozen=True)
class State:
    """What is read from a layer (see `readout.read_out`), and which of a prompt's tokens count."""

    readout: Readout
    positions: Positions

    @property
    def slug(self) -> str:
        """Its name in the names of files and folders."""
        return f"{self.readout}_{self.positions}"


def all_states(readouts: Iterable[Readout], positions: Iterable[Positions]) -> tuple[State, ...]:
    """Every readout with every choice of positions, each once."""
    chosen = tuple(positions)
    return tuple(dict.fromkeys(State(readout, kept) for readout in readouts for kept in chosen))
