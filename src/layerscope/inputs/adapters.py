"""PEFT adapters: loaded strictly onto a headless model and merged into its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from layerscope.errors import UserError, missing_package
from layerscope.inputs.quiet import quiet_libraries
from layerscope.inputs.weights import check_safetensors, content_hash

_PREFIX = "base_model.model."


@dataclass(frozen=True)
class MergedAdapter:
    """A model with an adapter in its weights."""

    model: PreTrainedModel
    revision: str
    warnings: tuple[str, ...]


class _LanguageModel(nn.Module):
    """Stands in for the class with a head that an adapter was trained on, so that the adapter's key names fit."""

    def __init__(self, prefix: str, model: PreTrainedModel) -> None:
        super().__init__()
        self.add_module(prefix, model)
        self.config = model.config
        self.is_gradient_checkpointing = False


def merge_adapter(model: PreTrainedModel, adapter: str, *, allow_pickle: bool) -> MergedAdapter:
    """Merge the adapter in folder `adapter` into `model`.

    Adapters trained on a class with a head name their weights below that class's prefix ("model."). Loaded onto the
    headless class as they are, they would do nothing and peft would only warn; here a key without a place, and a place
    without a key, are errors.

    Raises:
        UserError: the folder is no adapter, holds only pickled weights, or does not fit the model.
    """
    folder = Path(adapter).expanduser()
    files, notes = _adapter_files(folder, allow_pickle=allow_pickle)
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise missing_package("peft", f"adapter {adapter!r}") from error
    prefix = _prefix(model, files[0])
    holder = _LanguageModel(prefix, model) if prefix else model
    try:
        with quiet_libraries(), _no_traces():
            config = PeftConfig.from_pretrained(str(folder))
            # Task types only wrap heads and generation around the tuner; without one the plain class takes any model.
            config.task_type = None
            config.inference_mode = True
            wrapped = PeftModel(holder, config, autocast_adapter_dtype=False)
            device = str(next(model.parameters()).device)
            loaded = wrapped.load_adapter(str(folder), "default", torch_device=device, autocast_adapter_dtype=False)
            lost, unused = sorted(loaded.missing_keys), sorted(loaded.unexpected_keys)
            if not (lost or unused):
                merged = wrapped.merge_and_unload()
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"adapter {folder} does not fit {type(model).__name__}: {text}") from error
    if lost or unused:
        raise UserError(
            f"adapter {folder} does not fit {type(model).__name__}: {len(lost)} weights are missing and {len(unused)} "
            f"have no place, first {(unused or lost)[0]}; give the adapter of this model"
        )
    base = getattr(merged, prefix) if prefix else merged
    base.eval().requires_grad_(False)
    return MergedAdapter(base, adapter_revision(adapter, allow_pickle=allow_pickle), notes)


def adapter_revision(adapter: str, *, allow_pickle: bool) -> str:
    """The start of the hash of an adapter's files, without loading it.

    Raises:
        UserError: the folder is no adapter, or holds only pickled weights.
    """
    files, _ = _adapter_files(Path(adapter).expanduser(), allow_pickle=allow_pickle)
    return f"sha256:{content_hash(files)[:16]}"


@contextmanager
def _no_traces() -> Iterator[None]:
    """peft draws adapter weights at random before it loads them, and asks transformers for a deprecated property."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _adapter_files(folder: Path, *, allow_pickle: bool) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    if not folder.is_dir():
        raise UserError(f"expected a PEFT adapter folder, {folder} does not exist: give the folder it was saved to")
    config = folder / "adapter_config.json"
    if not config.is_file():
        raise UserError(f"expected a PEFT adapter folder with an adapter_config.json, {folder} has none")
    safe, pickled = folder / "adapter_model.safetensors", folder / "adapter_model.bin"
    if safe.is_file():
        check_safetensors(safe)
        return (safe, config), ()
    if not pickled.is_file():
        raise UserError(f"expected adapter_model.safetensors in {folder}, found none: save the adapter again")
    if not allow_pickle:
        raise UserError(
            f"{folder} holds only pickled adapter weights, which can run code when they are loaded: convert them to "
            "safetensors, or pass allow_pickle if you trust where they came from"
        )
    return (pickled, config), ("the adapter's weights were loaded from a pickle",)


def _prefix(model: PreTrainedModel, file: Path) -> str:
    """The attribute under which the adapter's own class held this model, or "" if it was trained on this class."""
    prefix = str(getattr(model, "base_model_prefix", "") or "")
    if not prefix or hasattr(model, prefix):
        return ""
    names = torch.load(file, weights_only=True) if file.suffix == ".bin" else check_safetensors(file)
    keys = [str(key).removeprefix(_PREFIX) for key in names]
    return prefix if all(key.startswith(f"{prefix}.") for key in keys) else ""
