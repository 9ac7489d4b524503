"""What a model's files ask for, held against what is there before time and memory are given to it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.normalizers import Normalizer
from torch import nn
from transformers import PreTrainedConfig

from layerscope.errors import UserError
from layerscope.files.reading import read_json
from layerscope.inputs.model_classes import headless_class
from layerscope.inputs.quiet import refusing

_LAYERS = re.compile(r"layers?$|depth$|blocks?$|block_count$")
_COUNTS = re.compile(r"(^|_)(layer|block|head|expert|label|group)s?(_|$)|\.(head|expert)_")
_SIZES = re.compile(
    r"(^|\.)(n|num|d)_|(size|dim|positions|embeddings|width|rank|seq_len)$|"
    r"(embedding|context|feed_forward|key|value|seq|sequence)_length$"
)
# Numbers that are used to compute with, however large: nothing is made in their number.
_FACTORS = re.compile(r"theta|base|freq|scal|factor|_id$")
_PACKED = 8
"""Weights that one byte of a file may hold."""
_SLACK = 2**26
"""Weights that need not stand in a file, such as tables of positions that follow from the config."""
_GROWTH = 64
_MOST_WRITTEN = 1000
"""Characters that a normaliser may put for what it finds."""


def check_numbers(stated: Mapping[str, object], tensors: int | None, name: str) -> None:
    """Refuse a number of layers, heads, labels, ... that no model has, before a class is made of it.

    Args:
        stated: a config as its file states it, or the metadata of a GGUF file.
        tensors: how many tensors the model's files hold; None where they are not here yet.
        name: what the file is called in the UserError, beside the setting.
    """
    limits = ((_LAYERS, max(1024, tensors or 0)), (_COUNTS, 2**17), (_SIZES, 2**24))
    for key, value in _leaves(stated):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or _FACTORS.search(key):
            continue
        most = next((most for kind, most in limits if kind.search(key)), math.inf)
        if value == value // 1 and value > most:
            held = "" if tensors is None else f" (the model's files hold {tensors:,} tensors)"
            said = f"{name} says {key} = {int(value):,}"[:300]
            raise UserError(f"{said}, and at most {most:,} is read{held}: download or save the model again")


def _leaves(stated: object) -> Iterator[tuple[str, object]]:
    """Whatever is no table and no list, with the innermost key that it stands under."""
    left = [("", stated)]
    while left:
        key, value = left.pop()
        if isinstance(value, Mapping):
            left += [(str(inner), found) for inner, found in value.items()]
        elif isinstance(value, (list, tuple)):
            left += [(key, found) for found in value]
        else:
            yield key, value


def check_room(config: PreTrainedConfig, size: int, name: str) -> None:
    """Refuse a config whose model has many times the weights that files of `size` bytes hold; nothing is allocated.

    The UserError says both numbers.
    """
    from transformers.initialization import meta_device_safe_creation_ops, no_init_weights

    kind = headless_class(config)
    if kind is None:
        return
    with torch.device("meta"), meta_device_safe_creation_ops(), no_init_weights():
        model: nn.Module = kind(config)
    asked = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if asked > _PACKED * size + _SLACK:
        raise UserError(
            f"the config of {name} describes a model of {asked:,} weights, and its files have {size:,} bytes: the two do "
            "not belong together"
        )


def check_normaliser(tokenizer: Path, name: str) -> None:
    """Refuse a tokenizer.json whose normaliser makes texts many times longer, step by step, before it runs as a whole.

    Raises:
        UserError: it does, or the file cannot be read.
        DamagedError: the file is not JSON.
    """
    stated = read_json(tokenizer, dict[str, object], advice="save or download the tokenizer again").get("normalizer")
    # What it looks for and writes; a table of characters is neither.
    written = [value for key, value in _leaves(stated) if isinstance(value, str) and key != "precompiled_charsmap"]
    # What one step writes is what the next may look for.
    text = probe = " ".join([*map(chr, range(33, 127)), *written])
    grown = max(map(len, written), default=0) > _MOST_WRITTEN
    for step in () if grown else _steps(stated, name):
        text = step.normalize_str(text)
        if grown := len(text) > _GROWTH * len(probe):
            break
    if grown:
        raise UserError(
            f"the tokenizer of model {name!r} makes texts more than {_GROWTH} times as long before it splits them: save or "
            "download the tokenizer again"
        )


def _steps(stated: object, name: str) -> Iterator[Normalizer]:
    """Each step of a normaliser alone; sequences may hold sequences."""
    left = [stated]
    while left:
        step = left.pop()
        if isinstance(step, Mapping) and isinstance(step.get("normalizers"), list):
            left += reversed(step["normalizers"])
        elif step is not None:
            model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
            alone = json.dumps({"version": "1.0", "added_tokens": [], "normalizer": step, "model": model})
            what = f"model {name!r} has a tokenizer whose normaliser does not load"
            with refusing(what, "save or download it again"):
                found: Normalizer = Tokenizer.from_str(alone).normalizer
            yield found
