"""One layer on one task: MTEB's own evaluation from cached vectors, written as MTEB's own JSON."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel

from layerscope.errors import DamagedError, LayerscopeError
from layerscope.files.reading import read_bytes
from layerscope.files.writing import make_folder, whole_file, write_text
from layerscope.tasks.cache import EmbeddingCache, MissingTextsError
from layerscope.tasks.process import RandomState, columns_read_once, kept_random_state, quiet_mteb, threads
from layerscope.tasks.record import ScoredTask

NEEDS_MODEL = "needs the model"
"""The outcome where a text is not in the cache: a task that asks for other texts at other layers."""
_NO_BAR = {"show_progress_bar": False}
Fill = Callable[[Sequence[str]], None]
"""Puts texts into the cache at every layer and state."""


class Evaluation(BaseModel, frozen=True):
    """One evaluation: which vectors, and where the result goes. `name` is what MTEB calls the model."""

    cache: Path
    layer: int
    name: str
    result: Path


def evaluate_layer(task: Any, random_state: RandomState, evaluation: Evaluation, fill: Fill | None = None) -> str:  # noqa: ANN401
    """Score one layer on a task and write the result, whole or not at all, in MTEB's layout; scores are not rounded.

    Args:
        task: an MTEB task with its data loaded, as fresh as if it had just been built: evaluating it changes it.
        random_state: the global generators as they were when its data had been loaded.
        evaluation: what to score.
        fill: encodes texts that are not in the cache.

    Returns:
        An empty string, NEEDS_MODEL, or the reason why the evaluation failed.
    """
    import mteb

    try:
        with kept_random_state(), quiet_mteb(), threads(1), columns_read_once():
            encoder = _encoder(EmbeddingCache(evaluation.cache), evaluation, fill)
            random_state.restore()
            options = {"co2_tracker": False, "cache": None, "overwrite_strategy": "always", **_NO_BAR}
            found = mteb.evaluate(encoder, task, encode_kwargs={"batch_size": 256, **_NO_BAR}, **options)
        result = found.task_results[0]
        content = {**result.model_dump(), "date": result.date.timestamp() if result.date else None}
        make_folder(evaluation.result.parent)
        write_text(evaluation.result, json.dumps(content, indent=2))
    except MissingTextsError:
        return NEEDS_MODEL
    except LayerscopeError:
        # A full disk or a model that cannot encode is no fault of the task: the whole run has to stop.
        raise
    except Exception as error:  # noqa: BLE001
        return reason_of(error)
    return ""


def _encoder(cache: EmbeddingCache, evaluation: Evaluation, fill: Fill | None) -> Any:  # noqa: ANN401
    """MTEB's EncoderProtocol for one layer and state: every vector comes from the cache."""
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    facts = {"revision": "layerscope", "similarity_fn_name": ScoringFunction.COSINE, "modalities": ["text"]}

    class LayerEncoder(AbsEncoder):  # type: ignore[misc]
        layer = evaluation.layer
        mteb_model_meta = ModelMeta.create_empty({"name": evaluation.name, **facts})

        def encode(self, inputs: Any, **_: Any) -> Float32[np.ndarray, "texts dim"]:  # noqa: ANN401
            texts = loader_texts(inputs)
            try:
                return cache.read(texts, evaluation.layer)
            except MissingTextsError:
                if fill is None:
                    raise
            fill(texts)
            return cache.read(texts, evaluation.layer)

    return LayerEncoder()


def loader_texts(loader: Any) -> list[str]:  # noqa: ANN401
    """The texts of a data loader, in order. MTEB has joined titles, instructions and conversations by then."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler

    rows = getattr(loader, "dataset", None)
    # Iterating the loader collates row by row, which took longer than looking the vectors up.
    if isinstance(rows, Dataset) and isinstance(getattr(loader, "sampler", None), SequentialSampler):
        texts = list(rows["text"])
    else:
        texts = [text for batch in loader for text in batch["text"]]
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"expected texts, got {type(wrong).__name__}: only text tasks can be scored")
    return texts


def reason_of(error: Exception) -> str:
    """The error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}".rstrip(": ")


class PackedTask(BaseModel, frozen=True):
    """A loaded task in a file, for any number of fresh copies of it."""

    path: Path
    size: int
    sha256: str

    @classmethod
    def of(cls, task: Any, random_state: RandomState, path: Path) -> PackedTask | None:  # noqa: ANN401
        """Write a task; None where it cannot be pickled (a class made inside a function)."""
        try:
            content = pickle.dumps((task, random_state))
        except (pickle.PicklingError, AttributeError, TypeError):
            return None
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        return cls(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())

    def unpack(self) -> tuple[Any, RandomState]:
        """A fresh copy. The file was written by this run, in a folder that only its user can read.

        Raises:
            DamagedError: it has changed since.
        """
        content = read_bytes(self.path, most=self.size)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DamagedError(
                f"{self.path} is damaged (its content is not what was written): run the same command again"
            )
        task, random_state = pickle.loads(content)
        return task, random_state


@dataclass(frozen=True)
class LoadedTask:
    """A task whose data was read: packed in a file, or, where it cannot be pickled, as it is."""

    facts: ScoredTask
    random_state: RandomState
    packed: PackedTask | None
    task: Any

    def fresh(self) -> tuple[Any, RandomState]:
        """A copy as it was after loading: evaluating a task uses up its random generators."""
        return self.packed.unpack() if self.packed else (copy.deepcopy(self.task), self.random_state)
