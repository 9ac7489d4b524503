"""What a forward pass may change in a model besides giving its output: noticed, and put back.

BigBird switches itself to full attention at the first short prompt and stays there; dynamic rotary embeddings keep the
frequencies of the longest prompt they saw. Every pass starts from the model as it was loaded, so that no prompt's
states depend on which prompts came before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from operator import is_
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from layerscope.errors import RunFailedError, UnsupportedModelError

SMALL_BYTES = 2**20
Before = list[tuple[PreTrainedConfig | nn.Module, str, object]]

_REGISTERS = ("_parameters", "_buffers", "_modules")
_NOTHING = object()
_SETTINGS = {
    "use_cache": False,
    # RWKV halves weights and states every so many blocks, at the first pass, to fit float16: other numbers, same model.
    "rescale_every": 0,
    # xLSTM runs its blocks over one piece of a longer prompt after the other, which hooks would take for the whole.
    "max_inference_chunksize": sys.maxsize,
}
_RESCALED = "layers_are_rescaled"


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
        # A module's attributes, its buffers, or a config's settings: its name, what holds them, and what that held.
        self._slots = [(name, holder, dict(holder)) for name, holder in _slots(model)]
        self._weights = list(model.named_parameters())
        self._buffers = list(_tensors(model))
        self._versions = [_version(tensor) for _, tensor in self._buffers]
        self._copies = [tensor.detach().clone() if is_small(tensor) else None for _, tensor in self._buffers]
        self._files: Mapping[Path, os.stat_result] = {}

    def watch(self, files: Mapping[Path, os.stat_result]) -> None:
        """Notice from now on where something writes to a file that weights were loaded from: they are read through it."""
        self._files = files

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
        for path, loaded in self._files.items():
            if _is_written_to(path, loaded):
                raise RunFailedError(
                    f"{path} was written to while the model was read from it, which changed its weights: write to another "
                    "file and rename it, and run the same command again"
                )
        for (name, weight), version in zip(self._weights, versions, strict=True):
            if _version(weight) != version:
                raise _overwritten(name)
        for name, holder, before in self._slots:
            if len(holder) != len(before) or not all(map(is_, holder.values(), before.values())):
                self._restore(name, holder, before)
        for place, (name, tensor) in enumerate(self._buffers):
            if _version(tensor) != self._versions[place]:
                copy = self._copies[place]
                if copy is None:
                    raise _overwritten(name)
                with torch.no_grad():
                    tensor.copy_(copy)
                self._versions[place] = _version(tensor)

    def _restore(self, name: str, holder: dict[str, object], before: dict[str, object]) -> None:
        """Give the public entries their values again, and note the names of those that were no tensors."""
        for key in [*before, *holder]:
            old, now = before.get(key, _NOTHING), holder.get(key, _NOTHING)
            if old is now or key.startswith("_"):
                continue
            if old is _NOTHING:
                del holder[key]
            else:
                holder[key] = old
            equal = type(old) is type(now) and isinstance(old, (bool, int, float, str)) and old == now
            if not isinstance(now, Tensor) and not equal:
                self.switched.add(f"{name}.{key}".lstrip("."))


def _is_written_to(path: Path, before: os.stat_result) -> bool:
    with suppress(OSError):  # another file under the name, or none, is no harm: the one that was loaded stays
        now = path.stat()
        same = now.st_size == before.st_size and now.st_mtime_ns == before.st_mtime_ns
        return now.st_ino == before.st_ino and not same
    return False


def is_small(tensor: Tensor) -> bool:
    """Whether a buffer is copied, so that one overwritten in place can be put back."""
    return not tensor.is_meta and tensor.numel() * tensor.element_size() <= SMALL_BYTES


def _slots(model: nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    configs: dict[int, PreTrainedConfig] = {}
    for name, module in model.named_modules():
        holder = vars(module)
        configs |= {id(value): value for value in holder.values() if isinstance(value, PreTrainedConfig)}
        # torch's own layers change nothing of themselves in eval mode, and there are many of them.
        if type(module).__module__.startswith("torch.nn.") and not holder["_modules"]:
            continue
        yield name, holder
        # Where accelerate moves weights in and out for each pass, it puts other tensors in their place.
        for register in _REGISTERS[2:] if "_hf_hook" in holder else _REGISTERS:
            if holder[register]:
                yield name, holder[register]
    for config in configs.values():
        yield "config", vars(config)


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


def _overwritten(name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"the model is not supported: a forward pass overwrites its {name}, so that states would depend on which prompts "
        "came before"
    )


def set_plain_pass(model: PreTrainedModel) -> Before:
    """Change the settings of a model and of its text config; what they were is returned, to be set again."""
    before: Before = []
    rescaled = [module for module in model.modules() if hasattr(module, _RESCALED)]
    for config in {id(config): config for config in (model.config, model.config.get_text_config())}.values():
        for name, value in _SETTINGS.items():
            # Weights that were halved by an earlier pass need what that pass did to the states.
            if hasattr(config, name) and not (
                name == "rescale_every" and any(getattr(module, _RESCALED) for module in rescaled)
            ):
                before.append((config, name, getattr(config, name)))
                setattr(config, name, value)
    for module in rescaled:
        before.append((module, _RESCALED, getattr(module, _RESCALED)))
        setattr(module, _RESCALED, True)
    return before
