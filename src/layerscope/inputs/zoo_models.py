"""Names of the small models that `layerscope zoo train` makes on this machine, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from layerscope.errors import UserError
from layerscope.files.reading import check_sum, read_sealed
from layerscope.inputs.gguf_files import cache_folder
from layerscope.inputs.revisions import find_revision, revisions
from layerscope.inputs.tables import table

RECORD = "zoo.json"
SEALED_SINCE = 2
"""The schema version of zoo.json from which on it is sealed and holds the sums of the checkpoints' files."""


@dataclass(frozen=True)
class ZooModel:
    """A model with its checkpoints, trained here and not downloaded."""

    description: str
    layers: int
    dim: int
    command: str

    def locate(self, name: str, revision: str | None) -> Path:
        """The model folder of a checkpoint; of the last one where none is asked for.

        Raises:
            UserError: it is not trained yet (the message holds the command), or has no such checkpoint.
            DamagedError: a file of the checkpoint is not what training wrote.
        """
        folder = zoo_folder(name)
        if not revisions(folder):
            raise UserError(f"model {name!r} is not trained on this machine yet: run `{self.command}` first")
        found = find_revision(folder, name, revision)
        if (folder / RECORD).exists():  # not where checkpoints were put there by hand
            advice = f"delete {folder} and run `{self.command}` again"
            sums = read_sealed(folder / RECORD, _Record, version=SEALED_SINCE, since=SEALED_SINCE, advice=advice).files
            for path in sums:
                if path.startswith(f"{found.name}/"):
                    check_sum(folder / path, sums, path, advice)
        return found


ZOO_MODELS = {name: ZooModel(**stated) for name, stated in table("models")["zoo"].items()}


class _Record(BaseModel):
    """What is asked of zoo.json: the sha256 of the checkpoints' files by their path in the folder; 0.1.0 kept none."""

    files: dict[str, str] = {}


def zoo_folder(name: str, cache: Path | None = None) -> Path:
    """Where a model's checkpoints are kept: zoo/NAME in `cache`, LAYERSCOPE_CACHE or ~/.cache/layerscope."""
    return (cache or cache_folder()) / "zoo" / name


def is_trained(name: str) -> bool:
    """Whether a model of the zoo is in the cache."""
    return bool(revisions(zoo_folder(name)))
