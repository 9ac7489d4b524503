"""The specs that studies share: built here, so that two studies that need the same numbers ask for the same run."""

from __future__ import annotations

from pathlib import Path

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import UserError
from layerscope.inputs.zoo_models import ZOO_MODELS, is_trained, zoo_folder
from layerscope.studies.jobs import UnavailableError
from layerscope.studies.spec import StudySpec

TRANSFORMER, SSM = PAIR = ("zoo-neox", "zoo-mamba2")
HELD_OUT = "held_out.jsonl"
# One readout for all curves: what `output_hidden_states` gives, which the papers' metrics were computed on.
READOUT = "hf"


def model_spec(spec: StudySpec, name: str) -> ModelSpec:
    """A model of a study."""
    return ModelSpec(
        name=name, dtype=spec.dtype, device=spec.device, device_map=spec.device_map, allow_pickle=spec.allow_pickle
    )


def text_spec(
    spec: StudySpec, *, perturbation: str | None = None, n: int | None = None, at_least: int | None = None
) -> TextSpec:
    """The texts of a study: what was asked for, else the leads that the pair was not trained on, else `wiki`."""
    # Random prompts have the length they are asked for and are of no text.
    random = perturbation is not None and perturbation.startswith("random:")
    source = "wiki" if random else spec.texts or held_out_texts()
    return TextSpec(
        source=source,
        column=spec.column,
        n=n or spec.n,
        min_tokens=at_least,
        context=None if random else spec.context,
        perturbation=perturbation,
        data_dir=spec.data_dir,
        sample_seed=spec.seed,
    )


def curves_run(spec: StudySpec, model: str) -> RunSpec:
    """Every metric at every layer of a model, with and without massive tokens."""
    return RunSpec(
        model=model_spec(spec, model),
        texts=text_spec(spec),
        readouts=(READOUT,),
        positions=("all", "no-sink"),
        seed=spec.seed,
    )


def entropy_run(spec: StudySpec, model: str, texts: TextSpec, *, alphas: tuple[float, ...] = (1.0,)) -> RunSpec:
    """Prompt entropy, raw and normalised, and how far the largest token stands out."""
    return RunSpec(
        model=model_spec(spec, model),
        texts=texts,
        metrics=("prompt_entropy", "norm_ratio"),
        readouts=(READOUT,),
        positions=("all", "no-sink"),
        normalizations=("none", "max", "logN"),
        alphas=alphas,
        seed=spec.seed,
    )


def held_out_texts() -> str:
    """The leads that the pair was not trained on, where it is trained; else all leads."""
    path = zoo_folder(TRANSFORMER) / HELD_OUT
    return str(path) if path.is_file() else "wiki"


def require_trained(models: tuple[str, ...]) -> None:
    """Refuse to start where a model of the zoo is not trained yet.

    Raises:
        UnavailableError: with the command that trains it.
    """
    for model in models:
        name = model.partition("@")[0]
        if name in ZOO_MODELS and not is_trained(name):
            raise UnavailableError(f"model {name!r} is not trained on this machine yet", ZOO_MODELS[name].command)


def checkpoint_names(spec: StudySpec, model: str) -> dict[int, str]:
    """The checkpoints of a model by step: those asked for, else all of a local training run.

    A step that is asked for stands in the grid whether or not it exists: where it does not, its job names it as missing.

    Raises:
        UserError: no steps are given for a model of the hub.
        UnavailableError: a model of the zoo is not trained.
    """
    require_trained((model,))
    if spec.steps:
        return {step: f"{model}@step{step}" for step in sorted(set(spec.steps))}
    if model not in ZOO_MODELS and not Path(model).expanduser().is_dir():
        raise UserError(f"the checkpoints of {model!r} are not known: give their steps (--steps 1,512,143000)")
    from layerscope.training.zoo import checkpoints

    return {checkpoint.step: checkpoint.name for checkpoint in checkpoints(model)}


def is_ssm(model: str) -> bool:
    """Whether a model is a state-space model, as far as its name says."""
    return "mamba" in model.lower() or "rwkv" in model.lower()


def short(model: str) -> str:
    """A model's name in a figure: without organisation or folders."""
    return model.rstrip("/").rpartition("/")[2]
