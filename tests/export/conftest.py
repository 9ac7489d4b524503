"""Tiny random models whose tokenizers read any text byte by byte, with and without special tokens around it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.families import FAMILIES, build_model

from layerscope.config import ModelSpec
from layerscope.export import speed
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture
from layerscope.states.readout import read_out

BYTES = 260


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch):
    """What the speed is measured on is tested on its own; here it only takes time."""
    monkeypatch.setattr(speed, "_ROUNDS", 1)
    monkeypatch.setattr(speed, "_TEXTS", 4)


def save_byte_tokenizer(folder: Path, *, first: str | None = None, last: str | None = None, chat: bool = False) -> None:
    """Bytes as tokens; `first` and `last` are put around every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    letters = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    around = [token for token in (first, last) if token]
    if around:
        template = " ".join([*([first] if first else []), "$A", *([last] if last else [])])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, vocabulary[token]) for token in dict.fromkeys(around)]
        )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    if chat:
        fast.chat_template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    fast.save_pretrained(folder)


def save_reader(folder: Path, family: str = "llama", **tokenizer: object) -> Path:
    """A tiny model of a family that reads bytes."""
    with quiet_libraries():
        build_model(FAMILIES[family], vocab_size=BYTES, max_position_embeddings=256).save_pretrained(folder)
    save_byte_tokenizer(folder, **tokenizer)
    return folder


@pytest.fixture(scope="session")
def reader(tmp_path_factory) -> Path:
    """A decoder whose tokenizer adds nothing, and has a chat template as instruct models do."""
    return save_reader(tmp_path_factory.mktemp("readers") / "reader", chat=True)


@pytest.fixture(scope="session")
def framed(tmp_path_factory) -> Path:
    """An encoder with a special token before and another after every text."""
    return save_reader(tmp_path_factory.mktemp("readers") / "framed", "bert", first="<s>", last="</s>")


@pytest.fixture(scope="session")
def vectors_one_by_one():
    """vectors(model, texts, layer, readout, keep): the mean over tokens, one text at a time, by hooks on the whole model."""

    def vectors(model, texts, layer, readout="normed", keep=slice(None)):
        found = []

        def read(_, states):
            found.append(read_out(model, layer, states, readout)[0, keep].mean(0))

        for text in texts:
            ids = model.tokenizer(text)["input_ids"]
            capture(model, make_batches([ids], 10_000, model.pad_id)[0], read, layers=[layer])
        return torch.stack(found).numpy()

    return vectors


@pytest.fixture
def spec_of():
    def spec(folder, **options):
        return ModelSpec(name=str(folder), **options)

    return spec
