"""run.json: what was asked, what it resolved to, on what, how long it took, and how it ended."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from layerscope.config import RunSpec
from layerscope.errors import RunFailedError, UserError
from layerscope.files.writing import whole_file
from layerscope.results.contents import AGAIN, held

SCHEMA_VERSION = 1
RECORD = "run.json"
PACKAGES = (
    "layerscope", "torch", "transformers", "tokenizers", "numpy", "scipy", "polars", "nlpaug", "datasets", "peft", "gguf",
)  # fmt: skip


class Skipped(BaseModel):
    """A prompt that was left out, and why."""

    model_config = ConfigDict(frozen=True)

    prompt_id: str
    n_tokens: int
    reason: str


class Resolved(BaseModel):
    """What the names of a spec turned out to be. Two runs with equal specs and equal `Resolved` have equal numbers."""

    model_config = ConfigDict(frozen=True)

    model_revision: str
    texts_revision: str
    n_layers: int
    dim: int
    context: int | None
    device: str
    dtype: str
    metrics: tuple[str, ...]
    n_prompts: int
    n_blocks: int
    prompts_sha256: str
    tokenizer_revision: str = ""
    """Of the tokenizer's files; empty in runs of version 0.1.0, which did not record it."""


class RunRecord(BaseModel):
    """Everything about a run but its numbers."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "done", "failed"]
    reason: str = ""
    spec: RunSpec
    resolved: Resolved
    weights: str = ""
    """sha256 of the weights without the config; equal ones are one model, whatever their names are."""
    counts: dict[str, int] = {}
    filters: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = {}
    packages: dict[str, str] = {}
    commit: str | None = None
    machine: str = ""
    started: str = ""
    finished: str = ""


def write_record(record: RunRecord, folder: Path) -> None:
    """Write run.json, whole or not at all."""
    with whole_file(folder / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path, advice: str = "") -> RunRecord:
    """Read the run.json of a run's folder.

    Args:
        folder: of the run.
        advice: what to do where it is damaged; by default what loses nothing.

    Raises:
        UserError: the folder is not a run.
        RunFailedError: run.json is damaged or of a newer schema.
    """
    path = folder / RECORD
    if not path.exists():
        other = held(folder) if folder.is_dir() else ""
        raise UserError(f"{folder} is not a run: it has no {RECORD}" + (f" (it holds {other})" if other else ""))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema_version", 0) > SCHEMA_VERSION:
            raise RunFailedError(
                f"{path} has schema version {content['schema_version']}, this layerscope reads up to {SCHEMA_VERSION}: update layerscope"
            )
        return RunRecord.model_validate(content)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, AttributeError) as error:
        raise RunFailedError(
            f"{path} cannot be read ({type(error).__name__}): the file is damaged; {advice or AGAIN.format('measure')}"
        ) from error


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def source_commit() -> str | None:
    """The git commit layerscope runs from, with `-dirty` where files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        tracked = _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return (commit + ("-dirty" if changed else "")) if tracked else None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()
