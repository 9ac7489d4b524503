"""StudySpec: the settings of a study. A preset is a filled one; what a user gives replaces its fields."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from layerscope.config import Dtype, Ints, Names, Shares, Spec

Preset = Literal["small", "paper"]
PRESETS: tuple[Preset, ...] = get_args(Preset)


class StudySpec(Spec):
    """The settings of a study. Fields that a study does not use stay as they are here."""

    preset: Preset = Field(
        "small", description="small: minutes, offline, models that are here; paper: the papers' own."
    )
    models: Names = Field((), description="Models, separated by commas.")
    texts: str | None = Field(None, description="Texts: a name of `layerscope texts`, a file, or hub:org/name.")
    column: str | None = Field(None, description="Column that holds the text.")
    n: int | None = Field(None, ge=2, description="How many prompts.")
    context: int | None = Field(None, ge=2, description="Longest prompt in tokens; longer ones are cut.")
    layer: int | None = Field(None, ge=0, description="Layer to look at, instead of the one that stands out.")
    tokens: Ints = Field((), description="Lengths of random prompts in tokens, separated by commas.")
    shares: Shares = Field((), description="Shares p of tokens that are repeated or randomised, separated by commas.")
    steps: Ints = Field((), description="Training steps of the checkpoints, separated by commas.")
    tasks: Names = Field((), description="MTEB tasks, separated by commas.")
    benchmark: str | None = Field(None, description="A set of tasks: paper32 or offline.")
    questions: str | None = Field(None, description="File of multiple-choice questions.")
    shots: int | None = Field(None, ge=0, description="Answered examples before each question.")
    data_dir: str | None = Field(
        None, description="Folder where DIR/org/name stands in for the hub data set org/name (or LAYERSCOPE_DATA_DIR)."
    )
    dtype: Dtype = Field("auto", description="Precision of the forward pass.")
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps, or auto.")
    device_map: str | None = Field(
        None, description="Spread models over several devices by accelerate (auto, balanced)."
    )
    allow_pickle: bool = Field(False, description="Load pickled (.bin) weights, as early Pythia checkpoints are.")
    seed: int = Field(0, ge=0, description="Seed of sampling, perturbation and resampling.")


# Every study takes these.
ALWAYS = frozenset({"dtype", "device", "device_map", "allow_pickle", "data_dir", "seed"})
