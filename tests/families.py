"""Tiny random models of every family, built from their configs and saved like any model a user has. No network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

VOCAB = 96
DIM = 16
DEPTH = 3

_ROPE: dict[str, Any] = {
    "hidden_size": DIM,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
_GROUPED = _ROPE | {"num_key_value_heads": 2}
_GEMMA = _GROUPED | {"head_dim": 8}
_WINDOW = {"sliding_window": 4}
_GPT = {"n_embd": DIM, "n_layer": DEPTH, "n_head": 4, "n_positions": 64}


@dataclass(frozen=True)
class Family:
    """A family's model type and what makes its config tiny."""

    model_type: str
    options: dict[str, Any] = field(default_factory=dict)
    final_norm: str | None = None
    """The attribute path of its final norm in the headless model; None where there is none."""
    part: str | None = None
    causal: bool = True
    attentions: bool = True
    context: int | None = 64
    tuple_shift: int = 0
    """Entry i of Hugging Face's hidden_states tuple is the input of block i + 1 + this."""


FAMILIES: dict[str, Family] = {
    "gpt-neox": Family("gpt_neox", _ROPE, "final_layer_norm"),
    "llama": Family("llama", _GROUPED, "norm"),
    "mistral": Family("mistral", _GROUPED | _WINDOW, "norm"),
    "gpt2": Family("gpt2", _GPT, "ln_f"),
    "qwen2": Family("qwen2", _GROUPED, "norm"),
    "qwen3": Family("qwen3", _GROUPED | {"head_dim": 8}, "norm"),
    "gemma": Family("gemma", _GEMMA, "norm"),
    "gemma2": Family("gemma2", _GEMMA | _WINDOW, "norm"),
    "gemma3": Family("gemma3_text", _GEMMA | _WINDOW, "norm"),
    "phi": Family("phi", _ROPE, "final_layernorm"),
    "opt": Family(
        "opt",
        {"hidden_size": DIM, "num_hidden_layers": DEPTH, "num_attention_heads": 4, "ffn_dim": 32}
        | {"max_position_embeddings": 64, "word_embed_proj_dim": DIM},
        "decoder.final_layer_norm",
    ),
    "falcon": Family("falcon", _ROPE | {"alibi": False}, "ln_f"),
    "bloom": Family("bloom", {"hidden_size": DIM, "n_layer": DEPTH, "n_head": 4}, "ln_f", context=None),
    "gptj": Family("gptj", _GPT | {"rotary_dim": 4}, "ln_f"),
    "mpt": Family("mpt", {"d_model": DIM, "n_layers": DEPTH, "n_heads": 4, "max_seq_len": 64}, "norm_f"),
    "mamba": Family(
        "mamba",
        {"hidden_size": DIM, "num_hidden_layers": DEPTH, "state_size": 8},
        "norm_f",
        attentions=False,
        context=None,
        tuple_shift=1,
    ),
    "mamba2": Family(
        "mamba2",
        {"hidden_size": DIM, "num_hidden_layers": DEPTH, "state_size": 8, "num_heads": 4, "head_dim": 8}
        | {"expand": 2, "n_groups": 1, "chunk_size": 8},
        "norm_f",
        attentions=False,
        context=None,
        tuple_shift=1,
    ),
    "falcon-mamba": Family(
        "falcon_mamba",
        {"hidden_size": DIM, "num_hidden_layers": DEPTH, "state_size": 8},
        "norm_f",
        attentions=False,
        context=None,
        tuple_shift=1,
    ),
    "bert": Family("bert", _ROPE, causal=False),
    "roberta": Family("roberta", _ROPE | {"max_position_embeddings": 66, "pad_token_id": 1}, causal=False),
    "xlm-roberta": Family("xlm-roberta", _ROPE | {"max_position_embeddings": 66, "pad_token_id": 1}, causal=False),
    "mpnet": Family("mpnet", _ROPE | {"max_position_embeddings": 66, "pad_token_id": 1}, causal=False),
    "electra": Family("electra", _ROPE | {"embedding_size": DIM}, causal=False),
    "distilbert": Family(
        "distilbert",
        {"dim": DIM, "n_layers": DEPTH, "n_heads": 4, "hidden_dim": 32, "max_position_embeddings": 64},
        causal=False,
    ),
    "deberta": Family("deberta", _ROPE, causal=False),
    "deberta-v2": Family("deberta-v2", _ROPE, causal=False),
    "modernbert": Family(
        "modernbert", _ROPE | {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 2}, "final_norm", causal=False
    ),
    "t5-encoder": Family(
        "t5",
        {"d_model": DIM, "num_layers": DEPTH, "num_heads": 4, "d_kv": 4, "d_ff": 32},
        "final_layer_norm",
        part="encoder",
        causal=False,
        context=None,
    ),
    "t5-decoder": Family(
        "t5",
        {"d_model": DIM, "num_layers": 2, "num_decoder_layers": DEPTH, "num_heads": 4, "d_kv": 4, "d_ff": 32},
        "decoder.final_layer_norm",
        part="decoder",
        context=None,
    ),
}

REFUSED: dict[str, Family] = {
    "albert": Family("albert", _ROPE | {"embedding_size": DIM}),
    "deberta-v2-conv": Family("deberta-v2", _ROPE | {"conv_kernel_size": 3}),
    "opt-projected": Family("opt", FAMILIES["opt"].options | {"word_embed_proj_dim": 8}),
    "xlnet": Family("xlnet", {"d_model": DIM, "n_layer": DEPTH, "n_head": 4, "d_inner": 32}),
}

BY_LENGTH: dict[str, Family] = {
    "phi3": Family(
        "phi3",
        _GROUPED
        | {"original_max_position_embeddings": 16}
        | {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1],
                "long_factor": [3.0, 9.0],
                "original_max_position_embeddings": 16,
            }
        },
        "norm",
    ),
    "llama-dynamic": Family(
        "llama",
        _GROUPED
        | {"max_position_embeddings": 24}
        | {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}},
        "norm",
        context=24,
    ),
    "bigbird": Family(
        "big_bird", _ROPE | {"attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1}, causal=False
    ),
}
"""Families that compute in another way when the batch is longer."""

TABLES: dict[str, Family] = {
    "clip": Family("clip_text_model", _ROPE | {"max_position_embeddings": 77}, context=77),
    "ibert": Family("ibert", _ROPE | {"max_position_embeddings": 66, "pad_token_id": 1}, causal=False),
    "gpt2-100": Family("gpt2", _GPT | {"n_positions": 100}, "ln_f", context=100),
    "xmod": Family(
        "xmod", _ROPE | {"max_position_embeddings": 66, "pad_token_id": 1, "languages": ["en_XX"]}
        | {"default_language": "en_XX"}, causal=False,
    ),
}  # fmt: skip
"""Families with a table of positions that ends."""


def build_model(family: Family, *, seed: int = 0, auto_class: Any = None, **options: Any) -> Any:
    """A random model of the family in eval mode. Weights are large enough for every block to change its input."""
    from transformers import AutoConfig, AutoModel

    special = {"vocab_size": VOCAB, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0} | family.options | options
    config = AutoConfig.for_model(family.model_type, **special)
    model = (auto_class or AutoModel).from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            # Norm scales stay near 1 and a state-space model's decay rates as they are: both have a meaning of their own.
            if tensor.ndim >= 2 and not name.endswith("A_log"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.25)
            elif name.endswith(("norm.weight", "norm.bias", "ln_f.weight", "LayerNorm.weight")):
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model


def save_tokenizer(folder: Path, **options: Any) -> None:
    """A whitespace tokenizer over w0, w1, ... whose token wN has id N."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "w0", "unk_token": "w3", "eos_token": "w2"} | options
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def add_padding_token(folder: Path) -> None:
    """Give the tokenizer a padding token of its own, as many do, without resizing the embeddings: its id is VOCAB."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == VOCAB
    tokenizer.save_pretrained(folder)


def save_family(family: Family, folder: Path, *, seed: int = 0, **options: Any) -> Path:
    """Save a tiny model and its tokenizer as a user's folder."""
    from layerscope.inputs.quiet import quiet_libraries

    with quiet_libraries():
        build_model(family, seed=seed, **options).save_pretrained(folder)
    save_tokenizer(folder)
    return folder
