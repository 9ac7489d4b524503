"""How the models of the zoo are trained: one literal dict."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from layerscope.config import Spec
from layerscope.inputs.known_models import ZOO_MODELS
from layerscope.training.watch import is_log_step


class Recipe(Spec):
    """Everything that decides what a trained model is, on one kind of processor with one set of package versions."""

    architecture: Literal["gpt-neox", "mamba2"]
    layers: int
    dim: int
    heads: int = Field(description="Attention heads, or the heads of Mamba-2, whose width is twice `dim`.")
    state: int = Field(0, description="Mamba-2's state per head.")
    vocab: int = Field(description="Entries of the tokenizer, trained on the training leads.")
    leads: int | None = Field(None, description="How many leads are used; None is all of them.")
    window: int = Field(description="Tokens in a training sequence; a GPT-NeoX is not built for longer prompts.")
    batch: int = Field(description="Training sequences in a step.")
    steps: int
    warmup: int = Field(description="Steps of linear warm-up; the first already moves the weights.")
    learning_rate: float
    least_rate: float = Field(0.1, description="What the cosine decay ends at, as a share of the learning rate.")
    weight_decay: float = 0.1
    precision: Literal["float32", "bfloat16"] = Field(description="Of the products in a training step.")
    threads: int = Field(description="Threads of the products: with others, sums come in another order.")
    watched: int = Field(32, description="Prompts that each checkpoint is measured on while training.")
    seed: int = 0

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The steps that are kept: 0, 1, 2, 4, ... and the last."""
        return tuple(step for step in range(self.steps + 1) if step in {0, self.steps} or is_log_step(step))


# The same tokens in the same order and the same number of steps for both, so that step N of one and of the other
# have seen the same text.
_SMALL = {"vocab": 3072, "window": 512, "batch": 2, "steps": 1600, "warmup": 32, "learning_rate": 2e-3, "threads": 2}
_TINY = {"vocab": 512, "leads": 400, "window": 128, "batch": 4, "steps": 48, "warmup": 4, "learning_rate": 5e-3}

RECIPES: dict[str, Recipe] = {
    name: Recipe.model_validate({"layers": ZOO_MODELS[name].layers, "dim": ZOO_MODELS[name].dim, **fields})
    for name, fields in {
        "zoo-neox": {"architecture": "gpt-neox", "heads": 4, "precision": "bfloat16", **_SMALL},
        "zoo-mamba2": {"architecture": "mamba2", "heads": 8, "state": 32, "precision": "float32", **_SMALL},
        "zoo-neox-tiny": {"architecture": "gpt-neox", "heads": 2, "precision": "float32", "threads": 1, **_TINY},
        "zoo-mamba2-tiny": {
            "architecture": "mamba2",
            "heads": 4,
            "state": 8,
            "precision": "float32",
            "threads": 1,
            **_TINY,
        },
    }.items()
}
PAIR = ("zoo-neox", "zoo-mamba2")
TINY_PAIR = ("zoo-neox-tiny", "zoo-mamba2-tiny")
