"""Names of the small models that `layerscope zoo train` makes on this machine, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layerscope.errors import UserError
from layerscope.inputs.gguf_files import cache_folder
from layerscope.inputs.revisions import find_revision, revisions


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
        """
        folder = zoo_folder(name)
        if not revisions(folder):
            raise UserError(f"model {name!r} is not trained on this machine yet: run `{self.command}` first")
        return find_revision(folder, name, revision)


_PYTHIA = "GPT-NeoX by Pythia's recipe, trained here on the wiki leads"
_MAMBA2 = "Mamba-2, trained here on the same texts in the same order"
_TINY = "layerscope zoo train --tiny"

ZOO_MODELS: dict[str, ZooModel] = {
    "zoo-neox": ZooModel(_PYTHIA, layers=6, dim=256, command="layerscope zoo train"),
    "zoo-mamba2": ZooModel(_MAMBA2, layers=6, dim=256, command="layerscope zoo train"),
    "zoo-neox-tiny": ZooModel(f"{_PYTHIA}; for tests only", layers=3, dim=32, command=_TINY),
    "zoo-mamba2-tiny": ZooModel(f"{_MAMBA2}; for tests only", layers=3, dim=32, command=_TINY),
}


def zoo_folder(name: str, cache: Path | None = None) -> Path:
    """Where a model's checkpoints are kept: zoo/NAME in `cache`, LAYERSCOPE_CACHE or ~/.cache/layerscope."""
    return (cache or cache_folder()) / "zoo" / name


def is_trained(name: str) -> bool:
    """Whether a model of the zoo is in the cache."""
    return bool(revisions(zoo_folder(name)))
