"""One layer on one task: MTEB's own evaluation from cached vectors, written as MTEB's own JSON."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from layerscope.errors import DamagedError, LayerscopeError
from layerscope.files.reading import read_bytes
from layerscope.files.writing import make_folder, whole_file, write_text
from layerscope.tasks.cache import EmbeddingCache, MissingTextsError
from layerscope.tasks.columns import columns_read_once
from layerscope.tasks.encoder import Fill, LayerEncoder
from layerscope.tasks.random_state import RandomState, kept_random_state
from layerscope.tasks.threads import threads

NEEDS_MODEL = "needs the model"
"""The outcome where a text is not in the cache: a task that asks for other texts at other layers."""


class Job(BaseModel, frozen=True):
    """One evaluation: which vectors, and where the result goes."""

    cache: Path
    layer: int
    name: str
    result: Path


def evaluate_layer(task: Any, random_state: RandomState, job: Job, fill: Fill | None = None) -> str:  # noqa: ANN401
    """Score one layer on a task and write the result.

    Args:
        task: an MTEB task with its data loaded, as fresh as if it had just been built: evaluating it changes it.
        random_state: the global generators as they were when its data had been loaded.
        job: what to score.
        fill: encodes texts that are not in the cache.

    Returns:
        An empty string, NEEDS_MODEL, or the reason why the evaluation failed.
    """
    import mteb

    encoder = LayerEncoder(EmbeddingCache(job.cache), job.layer, job.name, fill)
    try:
        with kept_random_state(), quiet_mteb(), threads(1), columns_read_once():
            random_state.restore()
            found = mteb.evaluate(
                encoder,
                task,
                co2_tracker=False,
                cache=None,
                overwrite_strategy="always",
                show_progress_bar=False,
                encode_kwargs={"batch_size": 256, "show_progress_bar": False},
            )
        write_result(found.task_results[0], job.result)
    except MissingTextsError:
        return NEEDS_MODEL
    except LayerscopeError:
        # A full disk or a model that cannot encode is no fault of the task: the whole run has to stop.
        raise
    except Exception as error:  # noqa: BLE001
        return describe(error)
    return ""


def write_result(result: Any, path: Path) -> None:  # noqa: ANN401
    """Write an MTEB TaskResult, whole or not at all, in MTEB's layout; unlike MTEB, scores are not rounded."""
    content = result.model_dump()
    content["date"] = result.date.timestamp() if result.date else None
    make_folder(path.parent)
    write_text(path, json.dumps(content, indent=2))


def describe(error: Exception) -> str:
    """The error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}".rstrip(": ")


@contextmanager
def quiet_mteb() -> Iterator[None]:
    """No warnings, log lines and progress bars of MTEB and what it is built on; the settings are put back."""
    import datasets
    import tqdm.std  # type: ignore[import-untyped]

    loggers = [logging.getLogger(name) for name in ("mteb", "datasets", "sentence_transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.utils.are_progress_bars_disabled()
    build = tqdm.std.tqdm.__init__

    def build_silent(self: object, *args: object, **options: object) -> None:
        build(self, *args, **(options | {"disable": True}))

    try:
        # Some of MTEB's bars have no setting that turns them off.
        tqdm.std.tqdm.__init__ = build_silent
        for logger in loggers:
            logger.setLevel(logging.ERROR + 1)
        datasets.disable_progress_bars()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        tqdm.std.tqdm.__init__ = build
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


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
