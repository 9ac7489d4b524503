"""The one record of every kind of run: what was asked, on what, how long it took, how it ended, and what its files hold."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import BaseModel

from layerscope.errors import DamagedError, LayerscopeError, UserError
from layerscope.files.reading import check_sum, read_sealed, sums_of, write_sealed
from layerscope.files.writing import inside
from layerscope.inputs.models import LoadedModel
from layerscope.results.contents import WHAT, Verb, again, held

SCHEMA_VERSION = 2
"""Version 1, of layerscope 0.1.0, had no hashes: such folders are read as they are."""
PACKAGES = (
    "layerscope",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "polars",
    "nlpaug",
    "datasets",
    "peft",
    "gguf",
)


class Frozen(BaseModel, frozen=True):
    """A part of a record."""


class ResolvedModel(Frozen):
    """What the model of a spec turned out to be."""

    model_revision: str
    tokenizer_revision: str = ""
    """Of the tokenizer's files; empty in runs of version 0.1.0, which did not record it."""
    n_layers: int
    dim: int | None = None
    context: int | None = None
    device: str = ""
    dtype: str = ""

    @staticmethod
    def facts(model: LoadedModel, identity: Mapping[str, str]) -> dict[str, Any]:
        """The fields of a loaded model, whose name stands for `identity` now (see `model_identity`).

        A UserError where its files changed between the hash that names them and the end of loading.
        """
        if model.revision != (now := identity["model_revision"]):
            raise UserError(
                f"model {model.spec.name!r} changed while it was loaded ({model.revision} -> {now}): run the same command "
                "again"
            )
        sizes = {name: getattr(model, name) for name in ("n_layers", "dim", "context")}
        return {**identity, **sizes, "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch.")}


class Record(Frozen):
    """Everything about a run but its numbers; each kind of run adds what was asked and what that turned out to be."""

    FILE: ClassVar[str]
    VERB: ClassVar[Verb]
    BESIDE: ClassVar[tuple[Verb, ...] | None] = ()
    """Whose files may stand in the folder before this run; None: anyone's."""
    FREE: ClassVar[tuple[str, ...]] = ()
    """What may be asked otherwise when a run is gone on with, because it changes no number."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "done", "failed"] = "running"
    reason: str = ""
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = {}
    packages: dict[str, str] = {}
    commit: str | None = None
    machine: str = ""
    started: str = ""
    finished: str = ""
    files: dict[str, str] = {}
    """The sha256 of every file of the run, by its path in the folder."""

    def check(self, folder: Path, name: str, advice: str = "") -> Path:
        """The path of a file of the run, which is as it was written; where it is not, the error ends with `advice`.

        Raises:
            UserError: it is not there, may not be read, or is a link.
            DamagedError: its content has changed, or it is gone.
        """
        path, advice = inside(folder, *name.split("/")), advice or again(folder, self.VERB)
        sealed = self.schema_version >= SCHEMA_VERSION
        if sealed and path.exists():
            check_sum(path, self.files, name, advice)
        elif sealed and name in self.files:
            raise DamagedError(f"{path} is gone: {advice}")
        return path


R = TypeVar("R", bound=Record)


def circumstances(model: LoadedModel | None = None, earlier: Record | None = None) -> dict[str, Any]:
    """The fields of a record that begins or goes on now: versions, commit, machine, and when it was begun."""
    return {
        "packages": package_versions(),
        "commit": source_commit(),
        "machine": f"{torch.get_num_threads()} threads, {model.device}" if model else platform.machine(),
        "started": earlier.started if earlier else now(),
    }


def read_record(kind: type[R], folder: Path, *, done: bool = False) -> R:
    """Read the record of a kind of run from its folder; with `done`, of a finished one.

    Raises:
        UserError: the folder holds no such run, or the record may not be read, or it is not done.
        RunFailedError: it is damaged or of a newer schema.
    """
    path = folder / kind.FILE
    if not path.exists() and not path.is_symlink():
        other = f" (it holds {found})" if folder.is_dir() and (found := held(folder)) else ""
        raise UserError(f"{folder} does not hold {WHAT[kind.VERB]}: it has no {kind.FILE}{other}")
    record = read_sealed(path, kind, version=SCHEMA_VERSION, since=2, advice=again(folder, kind.VERB))
    if done and record.status != "done":
        why = f" ({record.reason})" if record.reason else ""
        again_as = f"run the same `layerscope {kind.VERB}` command to finish it"
        raise UserError(f"{folder} is {record.status}{why}: {again_as}")
    return record


class Keeper(Generic[R]):
    """The record of a run while it is worked on, written whole whenever it changes.

    It may go on with the record of an earlier start, `before`: the seconds of that count on.
    """

    def __init__(self, record: R, folder: Path, before: R | None = None) -> None:
        self.record = record.model_copy(update={"warnings": (*record.warnings, *mixed_packages(before, record))})
        self.folder = folder
        self._seconds = dict((before or record).timings)

    def update(self, **fields: Any) -> None:  # noqa: ANN401
        """Change fields and write."""
        self.record = self.record.model_copy(update={**fields, "timings": dict(self._seconds)})
        write_sealed(self.record, self.folder / self.record.FILE)

    def done(self, files: Iterable[str] = (), **fields: Any) -> None:  # noqa: ANN401
        """Write the end of the work: the hashes of its files, by their paths in the folder, and when it was finished."""
        sums = {**self.record.files, **sums_of(self.folder, files)}
        self.update(status="done", reason="", finished=now(), files=sums, **fields)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to the stage, over interruptions."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spend(name, time.perf_counter() - start)

    def spend(self, name: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self._seconds[name] = round(self._seconds.get(name, 0.0) + seconds, 3)

    @contextmanager
    def working(self, noted: Callable[[BaseException], bool] = lambda _: True) -> Iterator[None]:
        """Leave the reason in the record when the work ends early. A kill leaves `running`; both can be continued.

        An error that says nothing about the work, which `noted` tells, is raised and not kept.
        """
        try:
            yield
        except BaseException as error:
            reason = "stopped by Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            try:
                if noted(error):
                    self.update(status="failed", reason=reason)
            except LayerscopeError as second:
                error.add_note(f"{self.record.FILE} could not be updated either: {second}")
            raise


def mixed_packages(before: Record | None, now: Record) -> tuple[str, ...]:
    """A sentence where a run goes on with other package versions than it was begun with; nothing where not."""
    if before is None or before.packages == now.packages:
        return ()
    return ("continued with other package versions than the run was started with",)


def now() -> str:
    """The time as records keep it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def package_versions(*more: str) -> dict[str, str]:
    """Versions of the packages that numbers depend on, of `more`, and of Python."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def source_commit() -> str | None:
    """The git commit layerscope runs from, with `-dirty` where files differ from it; None outside a checkout."""
    here = Path(__file__)
    asked = ("rev-parse HEAD", f"ls-files --error-unmatch {here.name}", "status --porcelain --untracked-files=no")
    ask = partial(subprocess.run, cwd=here.parent, capture_output=True, text=True, check=True)
    try:
        commit, tracked, changed = (ask(["git", *words.split()]).stdout.strip() for words in asked)
    except (OSError, subprocess.CalledProcessError):
        return None
    return (commit + ("-dirty" if changed else "")) if tracked else None
