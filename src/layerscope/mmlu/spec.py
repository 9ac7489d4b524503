"""MmluSpec: which questions, how they are asked, and what is measured on the prompts."""

from __future__ import annotations

from pydantic import Field

from layerscope.config import (
    EigenPrecision,
    Layers,
    ModelSpec,
    Names,
    Normalizations,
    Orders,
    PositionSets,
    Readouts,
    RunSpec,
    Spec,
    TextSpec,
)


class MmluSpec(Spec):
    """Accuracy per subject, and entropy per subject and layer on the same prompts."""

    model: ModelSpec
    questions: str = Field(
        "mmlu",
        min_length=1,
        description="Questions: mmlu (the hub's cais/mmlu), lm-eval-dev (281 that lm-eval ships, no hub needed), or a "
        ".jsonl, .csv or .parquet file with the columns subject, question, choices, answer.",
    )
    subjects: Names | None = Field(None, description="Subjects, separated by commas; all by default.")
    shots: int | None = Field(
        None,
        ge=0,
        description="Answered examples before each question; default: 5 where the questions come with examples (split "
        "dev), else 0. Without such a split other questions of the subject, drawn by the seed, are the examples.",
    )
    limit: int | None = Field(None, ge=2, description="At most this many questions a subject, the first ones.")
    data_dir: str | None = Field(
        None, description="Folder where DIR/cais/mmlu stands in for the hub's data set (or LAYERSCOPE_DATA_DIR)."
    )
    metrics: Names = Field(
        ("prompt_entropy",), min_length=1, description="Metrics with one value a prompt (see `layerscope metrics`)."
    )
    variants: Names = Field(("default",), min_length=1, description="Variants of the metrics, default, or all.")
    readouts: Readouts = ("raw",)
    positions: PositionSets = ("all",)
    normalizations: Normalizations = ("none",)
    alphas: Orders = (1.0,)
    layers: Layers = None
    precision: EigenPrecision = "float32"
    context: int | None = Field(
        None,
        ge=8,
        description="Longest prompt in tokens; longer ones lose their beginning, as in lm-eval; default: what the "
        "model was built for.",
    )
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples over subjects.")
    permutations: int = Field(9999, ge=99, description="Permutations behind the p-values.")
    block_size: int = Field(32, ge=1, description="Questions a block: what an interruption can lose.")
    batch_tokens: int = Field(4096, ge=1, description="Padded tokens in one forward pass.")
    seed: int = Field(0, ge=0, description="Seed of the drawn examples, the resampling and the permutations.")

    def run_spec(self, context: int | None = None) -> RunSpec:
        """What is measured on the prompts, of at most `context` tokens, as `layerscope measure` would be asked for it."""
        shared = MmluSpec.model_fields.keys() & RunSpec.model_fields.keys() - {"permutations"}
        texts = TextSpec(source=self.questions, n=None, context=context)
        return RunSpec(texts=texts, **{name: getattr(self, name) for name in shared})
