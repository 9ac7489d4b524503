"""The two architectures of the zoo, from a recipe to a model with fresh weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerscope.training.recipes import Recipe


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model with weights drawn from the recipe's seed, whatever was drawn before."""
    from transformers import AutoConfig, AutoModelForCausalLM

    own: dict[str, Any]
    if recipe.architecture == "gpt-neox":
        # Pythia: attention and MLP in parallel, rotary positions on a quarter of each head, an MLP four times as wide.
        own = {
            "num_attention_heads": recipe.heads,
            "intermediate_size": 4 * recipe.dim,
            "max_position_embeddings": recipe.window,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            "use_parallel_residual": True,
        }
    else:
        own = {
            "expand": 2,
            "num_heads": recipe.heads,
            "head_dim": 2 * recipe.dim // recipe.heads,
            "state_size": recipe.state,
            "n_groups": 1,
            "chunk_size": min(64, recipe.window),
            "initializer_range": 0.02,  # the default, 0.1, is for the weights of a far wider model
        }
    config = AutoConfig.for_model(
        recipe.architecture.replace("-", "_"),
        vocab_size=recipe.vocab,
        hidden_size=recipe.dim,
        num_hidden_layers=recipe.layers,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
        **own,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
