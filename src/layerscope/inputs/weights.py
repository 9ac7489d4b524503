"""Weight files on disk: which formats are let in, whether they are whole, and the hash that names their content."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import nn
from transformers import PreTrainedModel

from layerscope.errors import RunFailedError, UserError
from layerscope.files.reading import named_errors, open_regular, read_json
from layerscope.inputs.quiet import refusing
from layerscope.inputs.sizes import check_numbers

HASH_DIGITS = 16
_CHUNK = 1 << 22
# Masks, positions and rotary frequencies that older versions of transformers saved with the weights. They follow from the
# config, and today's classes make them anew.
_BUFFERS = re.compile(
    r"(^|\.)(attn|attention|self_attn|self_attention|self)\.(bias|masked_bias)$"
    r"|(^|\.)(rotary_emb|rotary|rope)\.(inv_freq|cos_cached|sin_cached)$"
    r"|(^|\.)(position_ids|token_type_ids)$"
)


class _Index(BaseModel):
    weight_map: dict[str, str]


def weight_files(folder: Path, *, allow_pickle: bool) -> tuple[Path, ...]:
    """The weight files of a Hugging Face model folder, checked to be there and whole.

    Raises:
        UserError: no config.json, one that asks for more than any model has, no weights, a shard is missing, a
            safetensors file is damaged, or only pickled weights and `allow_pickle` is off.
        DamagedError: config.json or the index of the shards is not what it should be.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            f"expected a model folder with a config.json, {folder} has none: give the folder it was saved to"
        )
    stated = read_json(config, dict[str, object], advice="save or download the model again")
    files = listed_weights(folder, allow_pickle=allow_pickle)
    held = [len(check_safetensors(file)) for file in files if file.suffix == ".safetensors"]
    check_numbers(stated, sum(held) if held else None, str(config))
    return files


def listed_weights(folder: Path, *, allow_pickle: bool) -> tuple[Path, ...]:
    """The files that `weight_files` would give, without a look into them.

    Raises:
        UserError: no weights, a shard is missing, or only pickled weights and `allow_pickle` is off.
        DamagedError: the index of the shards is not what it should be.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        return (single,)
    if index.is_file():
        found = read_json(index, _Index, advice="download the model again")
        names = sorted(set(found.weight_map.values()))
        with named_errors(index):
            wrong = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if wrong or not names:
            raise UserError(
                f"{index} names {len(names)} files, and {wrong[0][:80] if wrong else 'one'!r} is not beside it: download "
                "the model again"
            )
        return tuple(folder / name for name in names)
    pickles = tuple(sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.ckpt"), *folder.glob("*.pt")]))
    if not pickles:
        raise UserError(f"expected safetensors weights in {folder}, found none: save the model with safetensors")
    if not allow_pickle:
        raise pickled_only(folder, f"weights ({pickles[0].name})")
    return pickles


def pickled_only(folder: Path, what: str) -> UserError:
    """The error for a folder without safetensors."""
    return UserError(
        f"{folder} holds only pickled {what}, which can run code when they are loaded: convert them to safetensors, or pass "
        "allow_pickle if you trust where they came from"
    )


def check_safetensors(file: Path) -> tuple[str, ...]:
    """The tensor names in a safetensors file; a UserError where the header does not fit it (cut, another format)."""
    from safetensors import safe_open

    with refusing(f"{file} is not a whole safetensors file", "download or save it again"):
        open_regular(file).close()
        with safe_open(file, framework="pt") as opened:
            return tuple(opened.keys())


def as_revision(digest: str) -> str:
    """A hash as revisions have it, such as `sha256:0123456789abcdef`."""
    return f"sha256:{digest[:HASH_DIGITS]}"


def content_hash(files: Iterable[Path]) -> str:
    """sha256 over the content of the files in order, as hex."""
    return content_hashes((), files)[1]


def content_hashes(before: Iterable[Path], files: Iterable[Path]) -> tuple[str, str]:
    """sha256 over the content of both groups in order, and over that of the second alone; each file is read once."""
    both, alone = hashlib.sha256(), hashlib.sha256()
    for group, digests in ((before, (both,)), (files, (both, alone))):
        for file in group:
            with open_regular(file) as opened, named_errors(file):
                while chunk := opened.read(_CHUNK):
                    for digest in digests:
                        digest.update(chunk)
    return both.hexdigest(), alone.hexdigest()


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse weights that hold NaN or infinity by a RunFailedError that names the first such tensor."""
    for key, tensor in model.named_parameters():
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        # A sum reads the weights once and makes no mask; it can overflow on its own, so it only raises suspicion.
        if not tensor.detach().sum(dtype=torch.float32).isfinite() and (bad := int((~tensor.isfinite()).sum())):
            raise RunFailedError(
                f"the weights of {name} hold NaN or infinity, first in {key} ({bad} of {tensor.numel()} values): use a "
                "checkpoint from before the training diverged, or download it again"
            )


def check_keys(model: nn.Module, name: str, missing: Iterable[str], mismatched: Iterable[str]) -> None:
    """Refuse a model in which a weight that states depend on was not in the checkpoint, or of another shape.

    It would be drawn at random. The UserError names the first such weight.
    """
    if wrong_shape := sorted(mismatched):
        raise UserError(
            f"{wrong_shape[0]} in the checkpoint of {name} has another shape than its config.json says "
            f"({len(wrong_shape)} such weights): the two do not belong together"
        )
    if lost := sorted(missing):
        raise UserError(
            f"the checkpoint of {name} does not hold {lost[0]} ({len(lost)} weights of {type(model).__name__} are "
            "missing and would be random): give a checkpoint of the whole model"
        )


def drawn_keys(model: PreTrainedModel, missing: Iterable[str]) -> set[str]:
    """Those of the missing weights that were drawn at random or set to a constant, and that states depend on.

    A pooler sits behind the last block: models saved with a language model head have none and need none. The others follow
    from the config, as tables of sines do, and some classes do not save them: a second copy of their module, initialised
    from another place of the generator, holds the same numbers, and not one number throughout.
    """
    return {key for key in missing if key.split(".")[0] != "pooler" and not _follows_from_config(model, key)}


def _follows_from_config(model: PreTrainedModel, key: str) -> bool:
    owner, _, leaf = key.rpartition(".")
    table = model.get_parameter_or_buffer(key)
    if table.is_meta or table.numel() < 2 or bool((table == table.flatten()[0]).all()):
        return False
    again = copy.deepcopy(model.get_submodule(owner))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        getattr(again, leaf).fill_(torch.nan)
        torch.rand(1)
        model._init_weights(again)
        return torch.equal(getattr(again, leaf), table)


def unused_keys(model: nn.Module, unexpected: Iterable[str]) -> tuple[str, ...]:
    """A warning about weights in the checkpoint that the model left out though they lie among its own parts.

    Heads are left out on purpose: what counts is a name that starts like one of the model's own ("layers.30..."). So are
    buffers that follow from the config.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    own = {name for name, _ in model.named_children()}
    left = sorted(
        key for key in unexpected if key.removeprefix(prefix).split(".")[0] in own and not _BUFFERS.search(key)
    )
    said = f"{len(left)} weights of the checkpoint have no place in the model its config.json describes, first "
    return (said + left[0],) if left else ()
