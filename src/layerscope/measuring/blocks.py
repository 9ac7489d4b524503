"""A finished block of prompts on disk: values per prompt and pooled vectors, written whole and read a layer at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32

from layerscope.errors import RunFailedError
from layerscope.files.writing import whole_file


@dataclass
class Block:
    """What one block of prompts gave. Axes: states and layers as planned, prompts in the block's own order.

    `reasons` says why a value is NaN: (state, layer index, metric key, row) -> reason.
    """

    values: Float64[np.ndarray, "states layers keys prompts"]
    tokens: Int32[np.ndarray, "states layers prompts"]
    pooled: Float32[np.ndarray, "states layers pooled_prompts dim"]
    views: Float32[np.ndarray, "states layers viewed_prompts views dim"]
    reasons: dict[tuple[int, int, int, int], str] = field(default_factory=dict)
    unchanged_views: int = 0


ARRAYS = ("values", "tokens", "pooled", "views")


def block_path(folder: Path, index: int) -> Path:
    """Where block `index` of the run in `folder` stands."""
    return folder / "blocks" / f"block_{index:05d}"


def write_block(block: Block, folder: Path, index: int) -> None:
    """Write a block; it appears under its name only when all of it is on the disk."""
    with whole_file(block_path(folder, index)) as temporary:
        temporary.mkdir()
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(block, name))
        notes = {
            "reasons": [[*where, why] for where, why in block.reasons.items()],
            "unchanged_views": block.unchanged_views,
        }
        (temporary / "notes.json").write_text(json.dumps(notes), encoding="utf-8")


@dataclass(frozen=True)
class StoredBlocks:
    """All blocks of a run, read one layer at a time, prompts back in the order of the prompt set.

    Arrays are read and let go of layer by layer: what is in memory does not grow with the number of layers.
    """

    folder: Path
    rows: Sequence[Sequence[int]]

    def values(self, layer: int) -> Float64[np.ndarray, "states keys prompts"]:
        """Values per prompt of one layer."""
        return self._gather("values", layer, axis=2)

    def tokens(self, layer: int) -> Int[np.ndarray, "states prompts"]:
        """How many tokens each prompt's values at one layer were computed from."""
        return self._gather("tokens", layer, axis=1)

    def pooled(self, layer: int, state: int) -> Float[np.ndarray, "prompts dim"]:
        """Pooled vectors of one layer and state."""
        return self._gather("pooled", layer, axis=0, state=state)

    def views(self, layer: int, state: int) -> Float[np.ndarray, "prompts views dim"]:
        """Pooled vectors of the augmented views at one layer and state."""
        return self._gather("views", layer, axis=0, state=state)

    def notes(self) -> tuple[dict[tuple[int, int, int, int], str], int]:
        """Reasons for NaN, by (state, layer index, key, prompt), and the number of views equal to their prompt."""
        reasons: dict[tuple[int, int, int, int], str] = {}
        unchanged = 0
        for index, rows in enumerate(self.rows):
            path = block_path(self.folder, index) / "notes.json"
            notes = json.loads(path.read_text(encoding="utf-8"))
            unchanged += notes["unchanged_views"]
            for state, layer, key, row, why in notes["reasons"]:
                reasons[state, layer, key, rows[row]] = why
        return reasons, unchanged

    def _gather(self, name: str, layer: int, *, axis: int, state: int | None = None) -> np.ndarray:
        gathered: np.ndarray | None = None
        for rows, part in zip(self.rows, self._parts(name, layer, state), strict=True):
            if gathered is None:
                # Rows of a block can be none at all: vectors that the run does not keep.
                n = sum(map(len, self.rows)) if part.shape[axis] else 0
                gathered = np.empty((*part.shape[:axis], n, *part.shape[axis + 1 :]), dtype=part.dtype)
            if part.shape[axis]:
                gathered[(slice(None),) * axis + (list(rows),)] = part
        if gathered is None:
            raise ValueError(f"expected one block or more, got none for {name}")
        return gathered

    def _parts(self, name: str, layer: int, state: int | None) -> Iterator[np.ndarray]:
        for index in range(len(self.rows)):
            path = block_path(self.folder, index) / f"{name}.npy"
            try:
                stored = np.load(path, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                raise RunFailedError(
                    f"{path} cannot be read ({error}): delete {path.parent} and run the same command, it is made again"
                ) from error
            yield np.array(stored[:, layer] if state is None else stored[state, layer])
