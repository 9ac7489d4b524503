"""What a forward pass may change in a model besides giving its output: noticed, and put back.

BigBird switches itself to full attention at the first short prompt and stays there; dynamic rotary embeddings keep the
frequencies of the longest prompt they saw. Every pass starts from the model as it was loaded, so that no prompt's
states depend on which prompts came before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from layerscope.errors import RunFailedError, UnsupportedModelError

SMALL_BYTES = 2**20
"""Buffers up to this size are copied, so that one overwritten in place can be put back."""

_REGISTERS = ("_parameters", "_buffers", "_modules")
_NOTHING = object()


Stamp = tuple[int, int, int]
"""Which file a name stands for, its size, and when it was last written to."""


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file as it is now; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Standing:
    """A model's modules, buffers, attributes and configs as they are when this is made.

    Attributes are compared by identity and tensors by their version, which counts changes in place: a whole model of
    some hundred modules takes a fraction of a millisecond. Private attributes are left alone; transformers notes its own
    installed hooks there.

    Attributes:
        switched: names of attributes and modules (not tensors) that passes have changed so far. A model that has some
            decides by its input how it computes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.switched: set[str] = set()
        self._slots = list(_slots(model))
        self._weights = list(model.named_parameters())
        self._buffers = [_Buffer(name, tensor) for name, tensor in _tensors(model)]
        self._files: dict[Path, Stamp] = {}

    def watch(self, files: Mapping[Path, Stamp]) -> None:
        """Notice from now on where something writes to a file that weights were loaded from: they are read through it."""
        self._files = dict(files)

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Run a forward pass inside; afterwards the model stands as it did when this was made.

        Raises:
            UnsupportedModelError: the model overwrote a weight or a large buffer, of which there is no copy.
            RunFailedError: something else wrote to the file of the weights.
        """
        versions = [_version(tensor) for _, tensor in self._weights]
        try:
            yield
        finally:
            self._put_back(versions)

    def _put_back(self, versions: list[int]) -> None:
        for path, stamp in self._files.items():
            now = stamp_of(path)
            # Another file under the name is no harm: the one that was loaded stays.
            if now is not None and now[0] == stamp[0] and now != stamp:
                raise RunFailedError(
                    f"{path} was written to while the model was read from it, which changed its weights: write to another "
                    "file and rename it, and run the same command again"
                )
        for (name, tensor), version in zip(self._weights, versions, strict=True):
            if _version(tensor) != version:
                raise _overwritten(name)
        for slot in self._slots:
            if not slot.stands():
                self.switched |= slot.put_back()
        for buffer in self._buffers:
            buffer.put_back()


@dataclass(frozen=True)
class _Slot:
    """One dictionary: a module's attributes, its buffers, or a config's settings."""

    name: str
    holder: dict[str, object]
    before: dict[str, object]
    values: tuple[object, ...]

    @classmethod
    def of(cls, name: str, holder: dict[str, object]) -> _Slot:
        return cls(name, holder, dict(holder), tuple(holder.values()))

    def stands(self) -> bool:
        return len(self.holder) == len(self.values) and all(map(is_, self.holder.values(), self.values))

    def put_back(self) -> set[str]:
        """Give the public entries their values again; the names of those that were no tensors."""
        switched: set[str] = set()
        for key in [*self.before, *self.holder]:
            old, now = self.before.get(key, _NOTHING), self.holder.get(key, _NOTHING)
            if old is now or key.startswith("_"):
                continue
            if old is _NOTHING:
                del self.holder[key]
            else:
                self.holder[key] = old
            if not isinstance(now, Tensor) and not _equal(old, now):
                switched.add(f"{self.name}.{key}".lstrip("."))
        return switched


class _Buffer:
    """A tensor that is no weight, with a copy where it is small."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self.tensor = tensor
        self.version = _version(tensor)
        small = tensor.numel() * tensor.element_size() <= SMALL_BYTES and not tensor.is_meta
        self.copy = tensor.detach().clone() if small else None

    def put_back(self) -> None:
        if _version(self.tensor) == self.version:
            return
        if self.copy is None:
            raise _overwritten(self.name)
        with torch.no_grad():
            self.tensor.copy_(self.copy)
        self.version = _version(self.tensor)


def _slots(model: nn.Module) -> Iterator[_Slot]:
    configs: dict[int, PreTrainedConfig] = {}
    for name, module in model.named_modules():
        holder = vars(module)
        configs |= {id(value): value for value in holder.values() if isinstance(value, PreTrainedConfig)}
        # torch's own layers change nothing of themselves in eval mode, and there are many of them.
        if type(module).__module__.startswith("torch.nn.") and not holder["_modules"]:
            continue
        yield _Slot.of(name, holder)
        # Where accelerate moves weights in and out for each pass, it puts other tensors in their place.
        for register in _REGISTERS[2:] if "_hf_hook" in holder else _REGISTERS:
            if holder[register]:
                yield _Slot.of(name, holder[register])
    for config in configs.values():
        yield _Slot.of("config", vars(config))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Buffers, and tensors that are plain attributes, each once."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        if "_hf_hook" in vars(module):
            continue
        for holder in (vars(module), module._buffers):
            for key, value in holder.items():
                if isinstance(value, Tensor) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{name}.{key}".lstrip("."), value


def _version(tensor: Tensor) -> int:
    """How often it was changed in place; tensors made under inference_mode do not count and cannot be changed."""
    return 0 if tensor.is_inference() else tensor._version


def _equal(old: object, new: object) -> bool:
    return type(old) is type(new) and isinstance(old, (bool, int, float, str)) and old == new


def _overwritten(name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"the model is not supported: a forward pass overwrites its {name}, so that states would depend on which prompts "
        "came before"
    )
