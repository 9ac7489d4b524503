"""PEFT adapters: loaded strictly onto a headless model and merged into its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings

import torch
from torch import nn
from transformers import PreTrainedModel

from layerscope.errors import UserError, lacking
from layerscope.files.reading import expanded
from layerscope.inputs.parts import PROBE_TOKENS, input_device, table_rows
from layerscope.inputs.quiet import quiet_libraries, said_as
from layerscope.inputs.weights import as_revision, check_safetensors, content_hash, pickled_only

if TYPE_CHECKING:
    from peft import PeftConfig

_PREFIX = "base_model.model."
# Merging rounds in the model's precision: bfloat16 has 8 bits.
_MOST_MERGED = 0.03


def merge_adapter(
    model: PreTrainedModel, adapter: str, *, allow_pickle: bool
) -> tuple[PreTrainedModel, str, tuple[str, ...]]:
    """Merge the adapter in folder `adapter` into `model`.

    Adapters trained on a class with a head name their weights below that class's prefix ("model."). Loaded onto the
    headless class as they are, they would do nothing and peft would only warn; here a key without a place, and a place
    without a key, are errors. Weights of the head itself are left out.

    Returns:
        The model, the adapter's revision, and warnings.

    Raises:
        UserError: the folder is no adapter, holds only pickled weights, does not fit the model, or cannot be merged.
    """
    folder = expanded(adapter)
    files, notes = _adapter_files(folder, allow_pickle=allow_pickle)
    # The names of its weights as its own class had them, without what peft puts before and into them.
    stored = torch.load(files[0], weights_only=True) if files[0].suffix == ".bin" else check_safetensors(files[0])
    keys = [_plain(str(key)) for key in stored]
    # Where its class had a head, the attribute that held this model; weights of a head stand beside that.
    prefix = str(getattr(model, "base_model_prefix", "") or "")
    if hasattr(model, prefix) or not any(key.startswith(f"{prefix}.") for key in keys):
        prefix = ""
    holder: nn.Module = model
    if prefix:
        # In place of the class with a head that the adapter was trained on, so that the names of its weights fit.
        holder = nn.Module()
        holder.add_module(prefix, model)
        vars(holder).update(config=model.config, is_gradient_checkpointing=False)
    heads = [key for key in keys if prefix and not key.startswith(f"{prefix}.")]
    if heads:
        notes += (f"the adapter's weights of its head, such as {heads[0]}, were left out: no state depends on them",)

    def say(text: str, error: BaseException) -> UserError:
        if isinstance(error, ImportError):
            return lacking(error, f"adapter {adapter!r}")
        return UserError(f"adapter {folder} does not fit {type(model).__name__}: {text}")

    # peft draws adapter weights at random before it loads them, and asks transformers for a deprecated property.
    traces = catch_warnings(action="ignore", category=FutureWarning)
    with said_as(say), quiet_libraries(), torch.random.fork_rng(devices=[]), traces:
        from peft import PeftConfig, PeftModel

        config = PeftConfig.from_pretrained(str(folder))
        _check_kind(config, folder)
        _leave_out_heads(config, holder)
        # Task types only wrap heads and generation around the tuner; without one the plain class takes any model.
        config.task_type = None
        config.inference_mode = True
        wrapped = PeftModel(holder, config, autocast_adapter_dtype=False)
        device = str(next(model.parameters()).device)
        loaded = wrapped.load_adapter(str(folder), "default", torch_device=device, autocast_adapter_dtype=False)
        lost = sorted(loaded.missing_keys)
        unused = sorted(key for key in loaded.unexpected_keys if _plain(key) not in heads)
        if lost or unused:
            raise UserError(
                f"adapter {folder} does not fit {type(model).__name__}: {len(lost)} weights are missing and {len(unused)} "
                f"have no place, first {(unused or lost)[0]}; give the adapter of this model"
            )
        before = _last_state(wrapped, model)
        merged = wrapped.merge_and_unload()
        away = float((before - _last_state(merged, model)).norm() / before.norm().clamp_min(1e-30))
    if not away < _MOST_MERGED:
        raise UserError(
            f"adapter {folder} merged into the weights is not what it was beside them (relative error {away:.1e} of the "
            "last state): load it yourself and use layerscope.measure_model"
        )
    base = getattr(merged, prefix) if prefix else merged
    base.eval().requires_grad_(False)
    return base, as_revision(content_hash(files)), notes


def adapter_revision(adapter: str, *, allow_pickle: bool) -> str:
    """The start of the hash of an adapter's files, without loading it.

    A UserError where the folder is no adapter, or holds only pickled weights.
    """
    files, _ = _adapter_files(expanded(adapter), allow_pickle=allow_pickle)
    return as_revision(content_hash(files))


def kind_of(config: PeftConfig) -> str:
    """What PEFT calls an adapter, in words."""
    kind = str(getattr(config.peft_type, "value", config.peft_type)).lower().replace("_", " ")
    return f"activated {kind}" if getattr(config, "alora_invocation_tokens", None) else kind


def _adapter_files(folder: Path, *, allow_pickle: bool) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    config, safe, pickled = (folder / f"adapter_{name}" for name in ("config.json", "model.safetensors", "model.bin"))
    if not folder.is_dir():
        raise UserError(f"expected a PEFT adapter folder, {folder} does not exist: give the folder it was saved to")
    if not config.is_file():
        raise UserError(f"expected a PEFT adapter folder with an adapter_config.json, {folder} has none")
    if safe.is_file():
        check_safetensors(safe)
        return (safe, config), ()
    if not pickled.is_file():
        raise UserError(f"expected adapter_model.safetensors in {folder}, found none: save the adapter again")
    if not allow_pickle:
        raise pickled_only(folder, "adapter weights")
    return (pickled, config), ("the adapter's weights were loaded from a pickle",)


def _plain(key: str) -> str:
    return key.removeprefix(_PREFIX).replace(".default.", ".").replace(".modules_to_save.", ".")


def _check_kind(config: PeftConfig, folder: Path) -> None:
    """Refuse what cannot be merged into weights because it is not about weights."""
    kind = kind_of(config)
    if config.is_prompt_learning:
        why = (
            f"{kind}: it gives the model {config.num_virtual_tokens} learned positions before every text and leaves its "
            "weights as they are, so there is nothing to merge; measure the model without it"
        )
    elif kind.startswith("activated"):
        why = (
            f"an {kind}: it changes the model's weights behind its invocation tokens alone, so it cannot be merged into "
            "them; measure the model without it"
        )
    elif config.is_adaption_prompt:
        why = (
            f"an {kind}: it adds parts to the model's attention, which cannot be merged into its weights; load it yourself "
            "and use layerscope.measure_model"
        )
    else:
        return
    raise UserError(f"adapter {folder} is {why}")


def _leave_out_heads(config: PeftConfig, holder: nn.Module) -> None:
    """Take out of an adapter's settings what is a part of its head, which the headless model does not have."""
    there = {part for name, _ in holder.named_modules() for part in name.split(".")}
    for setting in ("modules_to_save", "target_modules"):
        names = getattr(config, setting, None)
        if isinstance(names, (list, set, tuple)):
            kept = [name for name in names if name.split(".")[-1] in there]
            if kept or setting == "modules_to_save":  # an adapter of another model stays one, for peft to say so
                setattr(config, setting, (set(kept) if setting == "target_modules" else kept) or None)


@torch.no_grad()
def _last_state(outer: nn.Module, model: PreTrainedModel) -> torch.Tensor:
    """The last state of a few tokens with the adapter in place; 0 for a model of two stacks, which takes more than ids."""
    if getattr(model.config, "is_encoder_decoder", False):
        return torch.zeros(1)
    outer.eval()
    ids = torch.arange(PROBE_TOKENS, device=input_device(model))[None] % table_rows(model)
    # peft has replaced modules inside the model, not the model.
    state: torch.Tensor = model(input_ids=ids)[0]
    return state.float()
