"""Finished blocks of prompts on disk: values per prompt and pooled vectors, written whole and read a layer at a time."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32, Shaped
from pydantic import BaseModel

from layerscope.errors import LayerscopeError
from layerscope.files.reading import MADE_AGAIN, check_sum, read_array, read_sealed, sums_of, write_sealed
from layerscope.files.writing import inside, make_folder, tidy, whole_file
from layerscope.measuring.progress import Report

FOLDER = "blocks"
_NOTES = "notes.json"


@dataclass
class Block:
    """What one block of prompts gave. Axes: states and layers as planned, prompts in the block's own order.

    `reasons` says why a value is NaN: (state, layer index, metric key, row) -> reason. `letters` are the answers where
    the prompts are questions.
    """

    values: Float64[np.ndarray, "states layers keys prompts"]
    tokens: Int32[np.ndarray, "states layers prompts"]
    pooled: Float32[np.ndarray, "states layers pooled_prompts dim"]
    views: Float32[np.ndarray, "states layers viewed_prompts views dim"]
    reasons: dict[tuple[int, int, int, int], str] = field(default_factory=dict)
    unchanged_views: int = 0
    letters: Float64[np.ndarray, "prompts letters two"] | None = None


@dataclass(frozen=True)
class LayerValues:
    """What one layer gave for every prompt; `reasons` are texts, empty where there is a value."""

    values: Float64[np.ndarray, "states keys prompts"]
    tokens: Int[np.ndarray, "states prompts"]
    reasons: Shaped[np.ndarray, "states keys prompts"]


class _Notes(BaseModel):
    schema_version: int = 2
    identity: str
    reasons: list[str]
    """Each once; the array of the same name holds their places, from 1 on."""
    unchanged_views: int
    files: dict[str, str]


@dataclass(frozen=True)
class BlockStore:
    """All blocks of a run, prompts back in the order of the prompt set.

    Arrays are read and let go of layer by layer: what is in memory does not grow with the number of layers.

    Args:
        folder: the run's folder.
        rows: row numbers of the prompts of each block.
        identity: of what the blocks are made from; a block of another identity is none of this run's.
    """

    folder: Path
    rows: Sequence[Sequence[int]]
    identity: str

    def path(self, index: int) -> Path:
        """Where a block stands."""
        return inside(self.folder, FOLDER, f"block_{index:05d}")

    def make(
        self, lengths: Sequence[int], report: Report, measure: Callable[[Sequence[int], Callable[[float], None]], Block]
    ) -> tuple[str, ...]:
        """Make the blocks that are not there or are damaged.

        Args:
            lengths: tokens of each prompt, for the progress.
            report: called with ("measuring", tokens done, tokens in all).
            measure: makes the block of some rows; it is handed what to call with the share that is done.

        Returns:
            A sentence where blocks were made again.
        """
        make_folder(inside(self.folder, FOLDER))
        tidy(self.folder / FOLDER)
        weights = [sum(lengths[row] for row in rows) for rows in self.rows]
        total, done, damaged = float(sum(weights)), 0.0, 0
        for index, (rows, weight) in enumerate(zip(self.rows, weights, strict=True)):
            path = self.path(index)
            if path.exists() and not self._is_whole(index):
                shutil.rmtree(path)
                damaged += 1
            if not path.exists():

                def inside_block(share: float, before: float = done, weight: int = weight) -> None:
                    report("measuring", before + share * weight, total)

                self.write(measure(rows, inside_block), index)
            done += weight
            report("measuring", done, total)
        return (f"{damaged} blocks were not as they were written and were measured again",) if damaged else ()

    def write(self, block: Block, index: int) -> None:
        """Write a block; it appears under its name only when all of it is on the disk."""
        with whole_file(self.path(index)) as temporary:
            temporary.mkdir()
            places = {why: place for place, why in enumerate(dict.fromkeys(block.reasons.values()), 1)}
            codes = np.zeros(block.values.shape, dtype=np.int32)
            for where, why in block.reasons.items():
                codes[where] = places[why]
            arrays = {"reasons": codes} | ({} if block.letters is None else {"letters": block.letters})
            arrays |= {name: getattr(block, name) for name in ("values", "tokens", "pooled", "views")}
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            notes = _Notes(
                identity=self._identity(index),
                reasons=list(places),
                unchanged_views=block.unchanged_views,
                files=sums_of(temporary, [f"{name}.npy" for name in arrays]),
            )
            write_sealed(notes, temporary / _NOTES)

    def layer(self, layer: int) -> LayerValues:
        """Values per prompt of one layer, how many tokens each was computed from, and why some are missing."""
        where = (slice(None), layer)
        return LayerValues(
            values=self._gather("values", where, axis=2),
            tokens=self._gather("tokens", where, axis=1),
            reasons=self._gather("reasons", where, axis=2, meanings=self._reasons),
        )

    def vectors(
        self, of: Literal["pooled", "views"], layer: int, state: int
    ) -> Float[np.ndarray, "prompts dim"] | Float[np.ndarray, "prompts views dim"]:
        """Pooled vectors of the prompts, or of their augmented views, at one layer and state."""
        return self._gather(of, (state, layer), axis=0)

    def letters(self) -> Float64[np.ndarray, "prompts letters two"]:
        """The answers to questions."""
        return self._gather("letters", (slice(None),), axis=0)

    def unchanged_views(self) -> int:
        """The number of views that equal their prompt."""
        return sum(self._notes(index).unchanged_views for index in range(len(self.rows)))

    @cached_property
    def _reasons(self) -> list[np.ndarray]:
        return [np.array(["", *self._notes(index).reasons], dtype=object) for index in range(len(self.rows))]

    def _identity(self, index: int) -> str:
        return hashlib.sha256(repr((self.identity, index, tuple(self.rows[index]))).encode()).hexdigest()

    def _notes(self, index: int) -> _Notes:
        return read_sealed(self.path(index) / _NOTES, _Notes, version=2, since=1, advice=MADE_AGAIN)

    def _is_whole(self, index: int) -> bool:
        try:
            notes = self._notes(index)
            for name in notes.files:
                check_sum(self.path(index) / name, notes.files, name)
        except LayerscopeError:
            return False
        return notes.identity == self._identity(index)

    def _gather(
        self, name: str, where: tuple[int | slice, ...], *, axis: int, meanings: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """A part of the array of a name, of all blocks; where it holds places in `meanings`, what stands there."""
        gathered: np.ndarray | None = None
        for index, rows in enumerate(self.rows):
            part = np.array(read_array(self.path(index) / f"{name}.npy", MADE_AGAIN)[where])
            if meanings is not None:
                part = meanings[index][part]
            if gathered is None:
                # Rows of a block can be none at all: vectors that the run does not keep.
                n = sum(map(len, self.rows)) if part.shape[axis] else 0
                gathered = np.empty((*part.shape[:axis], n, *part.shape[axis + 1 :]), dtype=part.dtype)
            if part.shape[axis]:
                gathered[(slice(None),) * axis + (list(rows),)] = part
        if gathered is None:
            raise ValueError("expected one block or more, got none")
        return gathered


def remove_blocks(folder: Path) -> None:
    """Remove the blocks of a run that is done."""
    shutil.rmtree(inside(folder, FOLDER), ignore_errors=True)
