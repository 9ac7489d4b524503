"""Tiny random language models that read bytes, a file of questions, and nothing from a hub."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

SUBJECTS = ("anatomy", "astronomy", "my_subject", "philosophy", "virology")


def save_tiny(folder: Path, *, merges: bool, model_type: str = "llama", **options: object) -> Path:
    """A causal model over bytes. With merges, each letter with its space is one token; without, it is two."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    alphabet = ["<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pairs = [("Ġ", letter) for letter in "ABCD"] if merges else []
    words = [*alphabet, *("".join(pair) for pair in pairs)]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    sizes = {
        "vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 32, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes, **options))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def one_token(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("one"), merges=True)


@pytest.fixture(scope="session")
def two_tokens(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("two"), merges=False)


def make_rows(per_subject: int = 4) -> list[dict[str, object]]:
    draw = random.Random(3)
    return [
        {
            "subject": subject,
            "question": f"What is {draw.randrange(10 ** draw.randrange(2, 9))} in {subject}?",
            "choices": [str(draw.randrange(100)) for _ in range(4)],
            "answer": draw.randrange(4),
        }
        for subject in SUBJECTS
        for _ in range(per_subject)
    ]


@pytest.fixture
def write(tmp_path):
    """write(rows): a .jsonl of these rows."""

    def to_file(rows, name="questions.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return to_file


@pytest.fixture
def rows() -> list[dict[str, object]]:
    return make_rows()
