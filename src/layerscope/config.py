"""The frozen specs: what can be asked for. The same classes are the Python API and, field by field, the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from layerscope.errors import UserError

Readout = Literal["raw", "normed", "hf"]
Positions = Literal["all", "no-first", "no-sink"]
Pooling = Literal["mean", "last", "first"]
Normalization = Literal["none", "max", "logN", "logD", "logNlogD"]
Precision = Literal["float32", "float64"]
Dtype = Literal["float32", "bfloat16", "float16", "auto"]
Augmentation = Literal["split", "char", "keyboard"]


def _listed(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, (int, float)) else value


_COMMAS = BeforeValidator(_listed)
Names = Annotated[tuple[str, ...], _COMMAS]
Floats = Annotated[tuple[Annotated[float, Field(gt=0)], ...], _COMMAS]
Shares = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], _COMMAS]
Ints = Annotated[tuple[Annotated[int, Field(ge=0)], ...], _COMMAS]
# Fields that every spec with layers to measure has, with the words of their help.
Readouts = Annotated[
    tuple[Readout, ...], _COMMAS, Field(min_length=1, description="What is read from a layer: raw, normed, hf.")
]
PositionSets = Annotated[
    tuple[Positions, ...], _COMMAS, Field(min_length=1, description="Which tokens count: all, no-first, no-sink.")
]
Normalizations = Annotated[
    tuple[Normalization, ...],
    _COMMAS,
    Field(min_length=1, description="Normalisations of the entropies: none, max, logN, logD, logNlogD."),
]
Orders = Annotated[Floats, Field(min_length=1, description="Orders of the matrix-based entropy; inf is allowed.")]
Layers = Annotated[Ints | None, Field(description="Layers to measure, 0 = embeddings; all by default.")]
EigenPrecision = Annotated[Precision, Field(description="Precision of the eigenvalues of prompt entropy.")]


class Spec(BaseModel):
    """A frozen, strictly checked description of something that can be asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", use_attribute_docstrings=True)

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Self:
        """The spec that a caller's options describe; a UserError that names the option where one is not valid."""
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or cls.__name__
            raise UserError(f"{where}: {first['msg']}, got {first['input']!r}") from error


class ModelSpec(Spec):
    """Which model, and how it is loaded."""

    name: str = Field(min_length=1)
    """Model: hub id (org/name or org/name@revision), local folder, .gguf file, or a name of `layerscope models`."""
    adapter: str | None = Field(None, description="PEFT adapter folder, merged into the model before measuring.")
    bidirectional: bool = False
    """Attend to all tokens, not only earlier ones (LLM2Vec-style decoders)."""
    part: Literal["encoder", "decoder"] | None = None
    """Which stack of an encoder-decoder model to measure."""
    dtype: Dtype = "float32"
    """Precision of the forward pass; auto = bfloat16 where the processor has it."""
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps, or auto.")
    device_map: str | None = None
    """Spread the model over several devices by accelerate (auto, balanced)."""
    fast_matmul: bool = False
    """Use the faster float32 products where a probe at start shows float32-level error."""
    trust_remote_code: bool = Field(False, description="Run code that comes with the model. A security risk; recorded.")
    allow_pickle: bool = Field(False, description="Load pickled (.bin) weights. A security risk; recorded.")


class TextSpec(Spec):
    """Which prompts."""

    source: str = Field("wiki", min_length=1)
    """Texts: a name of `layerscope texts`, a .txt, .jsonl, .csv or .parquet file, or hub:org/name (:config, :split, :column may follow)."""
    column: str | None = Field(None, description="Column that holds the text, for tables with more than one.")
    separator: str | None = None
    """What separates the fields of a .csv: comma, semicolon, tab, or one character; default: comma."""
    no_header: bool = False
    """The first row of a .csv is a row, not names; columns are then column-1, column-2, ..."""
    n: int | None = Field(256, ge=1, description="How many prompts to sample (seeded); all where there are fewer.")
    min_tokens: int | None = Field(None, ge=0, description="Leave out prompts with fewer tokens than this.")
    max_tokens: int | None = Field(None, ge=1, description="Leave out prompts with more tokens than this.")
    context: int | None = Field(None, ge=1)
    """Longest prompt in tokens given to the model; default: what the model was built for."""
    too_long: Literal["cut", "refuse"] = Field("cut", description="What to do with prompts longer than the context.")
    perturbation: str | None = None
    """repetition:P, randomness:P (P in [0, 1]) or random:T (random prompts of T tokens)."""
    data_dir: str | None = None
    """Folder where DIR/org/name stands in for the hub data set org/name (or LAYERSCOPE_DATA_DIR)."""
    sample_seed: int = Field(0, ge=0, description="Seed of the sampling and the perturbation.")


class ViewSpec(Spec):
    """How the augmented views of a prompt are made (appendix F of arXiv 2412.09563)."""

    views: int = Field(16, ge=2, description="Augmented views a prompt; InfoNCE and DiME use the first two, LiDAR all.")
    augmentations: Annotated[tuple[Augmentation, ...], _COMMAS] = ("split", "char", "keyboard")
    """NLPAug augmentations, applied in this order."""
    strength: float = Field(0.3, gt=0, le=1, description="Share of words and characters that an augmentation changes.")
    view_seed: int = Field(0, ge=0, description="Seed of the views; each (prompt, view) has its own stream.")


class RunSpec(Spec):
    """One measurement: a model, texts, and what to compute at every layer."""

    model: ModelSpec
    texts: TextSpec = Field(default_factory=TextSpec)
    views: ViewSpec = Field(default_factory=ViewSpec)
    metrics: Names = Field(("all",), description="Metrics (see `layerscope metrics`), or all.")
    variants: Names = Field(("default",), description="Variants of the metrics, default, or all.")
    readouts: Readouts = ("raw",)
    positions: PositionSets = ("all",)
    normalizations: Normalizations = ("none", "max")
    alphas: Orders = (1.0,)
    pooling: Pooling = Field("mean", description="How token states become one vector: mean, last, first.")
    layers: Layers = None
    precision: EigenPrecision = "float32"
    temperature: float = Field(0.1, gt=0, description="Temperature of InfoNCE.")
    permutations: int = Field(10, ge=10, description="Random pairings that DiME is compared with.")
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples for the intervals over prompts.")
    block_size: int = Field(32, ge=1, description="Prompts a block: what an interruption can lose.")
    batch_tokens: int = Field(4096, ge=1)
    """Padded tokens given to the model at once; on a CPU in four batches, for the cores to share."""
    keep_pooled: bool = Field(False, description="Keep the pooled vectors of every layer as .npy files.")
    seed: int = Field(0, ge=0, description="Seed of the resampling and of DiME's permutations.")
