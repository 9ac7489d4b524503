"""watch.json: which steps of a training run were measured, what that cost, and what went wrong."""

from __future__ import annotations

from pathlib import Path

from pydantic import computed_field

from layerscope.files.reading import read_sealed, write_sealed
from layerscope.files.writing import make_folder
from layerscope.results.record import SCHEMA_VERSION, Frozen

WATCH = "watch.json"


def is_log_step(step: int) -> bool:
    """Whether a step is a power of two (1, 2, 4, 8, ...): representations change most at the start of training."""
    return step > 0 and step & (step - 1) == 0


class WatchedStep(Frozen):
    """One look at the model."""

    step: int
    folder: str
    seconds: float = 0.0
    training_seconds: float = 0.0
    """Since training began, at the start of this look."""
    reason: str = ""
    """What went wrong; "" where nothing did."""
    same_as: int | None = None
    """An earlier step with the same weights: training changed nothing in between, or the weights are not this step's."""


class Watch(Frozen):
    """All looks of a training run."""

    schema_version: int = SCHEMA_VERSION
    steps: tuple[WatchedStep, ...] = ()

    @property
    def measured(self) -> frozenset[int]:
        """The steps that were looked at, with or without success."""
        return frozenset(step.step for step in self.steps)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds(self) -> float:
        """What all looks took."""
        return round(sum(step.seconds for step in self.steps), 3)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share_of_time(self) -> float:
        """The looks' share of the time from the start of training to the end of the last look, in [0, 1]."""
        whole = max((step.training_seconds + step.seconds for step in self.steps), default=0.0)
        return round(self.seconds / whole, 4) if whole > 0 else 0.0

    def adding(self, step: WatchedStep) -> Watch:
        """With one look more; an earlier one at the same step gives way."""
        kept = [other for other in self.steps if other.step != step.step]
        return Watch(steps=tuple(sorted([*kept, step], key=lambda one: one.step)))

    def until(self, step: int) -> Watch:
        """The looks of an earlier start that training goes on from at `step`."""
        return Watch(steps=tuple(one for one in self.steps if one.step <= step and step > 0))

    def write(self, folder: Path) -> None:
        """Write watch.json, whole or not at all."""
        make_folder(folder)
        write_sealed(self, folder / WATCH)


def read_watch(folder: Path) -> Watch:
    """The watch.json of a folder; an empty one where there is none.

    Raises:
        UserError: it may not be read, or is a link.
        RunFailedError: it is damaged.
    """
    path = folder / WATCH
    if not path.exists() and not path.is_symlink():
        return Watch()
    advice = "delete it, the runs beside it say what was measured"
    return read_sealed(path, Watch, version=SCHEMA_VERSION, since=2, advice=advice)
