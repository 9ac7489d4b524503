"""What the grids of studies are made of: built here, so that two studies that need the same numbers ask for the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerscope.config import Floats, ModelSpec, RunSpec, TextSpec
from layerscope.errors import UserError
from layerscope.inputs.known_models import ZOO_MODELS, zoo_folder
from layerscope.studies.jobs import UnavailableError
from layerscope.studies.spec import StudySpec
from layerscope.training.recipes import PAIR
from layerscope.training.zoo import HELD_OUT, checkpoints

# One readout for all curves: what `output_hidden_states` gives, which the papers' metrics were computed on.
READOUT = "hf"


def model_spec(spec: StudySpec, name: str) -> ModelSpec:
    """A model of a study.

    Raises:
        UnavailableError: it is of the zoo and not trained yet; with the command that trains it.
    """
    require_trained(name)
    return ModelSpec(name=name, **spec.model_dump(include={"dtype", "device", "device_map", "allow_pickle"}))


def text_spec(spec: StudySpec, perturbation: str | None = None) -> TextSpec:
    """The texts of a study: what was asked for, else the leads that the pair was not trained on, else `wiki`."""
    # Random prompts have the length they are asked for and are of no text.
    random = perturbation is not None and perturbation.startswith("random:")
    held_out = zoo_folder(PAIR[0]) / HELD_OUT
    return TextSpec(
        source="wiki" if random else spec.texts or (str(held_out) if held_out.is_file() else "wiki"),
        column=spec.column,
        n=spec.n,
        context=None if random else spec.context,
        perturbation=perturbation,
        data_dir=spec.data_dir,
        sample_seed=spec.seed,
    )


def run_of(spec: StudySpec, model: str, texts: TextSpec | None = None, **options: Any) -> RunSpec:  # noqa: ANN401
    """A measurement of a study.

    Args:
        spec: of the study.
        model: its model.
        texts: other texts than the study's.
        **options: further fields of RunSpec; the readout is `READOUT` where none is named.
    """
    asked = {"readouts": (READOUT,), **options}
    return RunSpec(model=model_spec(spec, model), texts=texts or text_spec(spec), seed=spec.seed, **asked)


def curves_run(spec: StudySpec, model: str) -> RunSpec:
    """Every metric at every layer of a model, with and without massive tokens."""
    return run_of(spec, model, positions=("all", "no-sink"))


def entropy_run(spec: StudySpec, model: str, texts: TextSpec | None = None, alphas: Floats = (1.0,)) -> RunSpec:
    """Prompt entropy, raw and normalised, and how far the largest token stands out."""
    asked = {"positions": ("all", "no-sink"), "normalizations": ("none", "max", "logN"), "alphas": alphas}
    return run_of(spec, model, texts, metrics=("prompt_entropy", "norm_ratio"), **asked)


def require_trained(model: str) -> None:
    """Refuse to start where a model of the zoo is not trained yet.

    Raises:
        UnavailableError: with the command that trains it.
    """
    name = model.partition("@")[0]
    if name in ZOO_MODELS and not ZOO_MODELS[name].installed:
        raise UnavailableError(f"model {name!r} is not trained on this machine yet", ZOO_MODELS[name].command)


def checkpoint_names(spec: StudySpec, model: str) -> dict[int, str]:
    """The checkpoints of a model by step: those asked for, else all of a local training run.

    A step that is asked for stands in the grid whether or not it exists: where it does not, its job names it as missing.

    Raises:
        UserError: no steps are given for a model of the hub.
        UnavailableError: a model of the zoo is not trained.
    """
    require_trained(model)
    if spec.steps:
        return {step: f"{model}@step{step}" for step in sorted(set(spec.steps))}
    if model not in ZOO_MODELS and not Path(model).expanduser().is_dir():
        raise UserError(f"the checkpoints of {model!r} are not known: give their steps (--steps 1,512,143000)")
    return {checkpoint.step: checkpoint.name for checkpoint in checkpoints(model)}


def is_ssm(model: str) -> bool:
    """Whether a model is a state-space model, as far as its name says."""
    return "mamba" in model.lower() or "rwkv" in model.lower()


def short(spec: StudySpec, model: str) -> str:
    """A model's name in a figure: its last part, and of those before it what tells it from the study's other models."""
    parts = model.rstrip("/").split("/")
    names = ["/".join(parts[start:]) for start in reversed(range(len(parts)))]
    others = [f"/{other.rstrip('/')}" for other in spec.models if other != model]
    return next((name for name in names if not any(other.endswith(f"/{name}") for other in others)), names[-1])


def model_title(spec: StudySpec, model: str) -> str:
    """`short`, with what a state-space model is."""
    return short(spec, model) + (" (state-space model)" if is_ssm(model) else "")


def file_name(spec: StudySpec, model: str) -> str:
    """`short` in a file's name: what every file system takes, and no more of it than they take."""
    words = "".join(sign if sign.isalnum() or sign in "-_.@" else "-" for sign in short(spec, model))
    return words.encode()[-150:].decode(errors="ignore")
