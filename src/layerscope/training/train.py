"""One model of the zoo: transformers' Trainer, and a checkpoint with its held-out loss at every doubling of the steps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerCallback, TrainerControl, TrainerState

from layerscope.config import TextSpec
from layerscope.errors import RunFailedError
from layerscope.files.writing import whole_file
from layerscope.inputs.processor import FAST_MATMUL_ERROR, choose_dtype, fast_matmul_error, matmul_precision
from layerscope.inputs.quiet import quiet_libraries
from layerscope.inputs.weights import check_finite
from layerscope.measuring.progress import Report
from layerscope.results.record import SCHEMA_VERSION, circumstances
from layerscope.tasks.process import kept_random_state, threads
from layerscope.training.architectures import new_model
from layerscope.training.callback import LayerscopeCallback
from layerscope.training.corpus import Corpus
from layerscope.training.recipes import Recipe
from layerscope.training.record import StepLoss, ZooRecord

WATCHED = ("prompt_entropy", "curvature")  # a few per cent of the training time
WATCH_RESAMPLES = 200
HELD_OUT_WINDOWS = 64  # enough for 33 thousand tokens, and seconds a checkpoint
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Arithmetic:
    """How the products of a training step are computed on this machine; `text` is for the record."""

    bfloat16: bool
    matmul: str
    text: str


def train_model(name: str, recipe: Recipe, corpus: Corpus, folder: Path, report: Report) -> ZooRecord:
    """Train a model and write its checkpoints, step0, step1, ..., into a folder.

    Args:
        name: the model's name.
        recipe: what to train and how.
        corpus: its corpus.
        folder: an empty folder.
        report: called with ("training NAME", steps done, steps).

    Returns:
        What zoo.json will hold.

    Raises:
        RunFailedError: the weights became NaN, or the disk is full.
    """
    precision, begun = choose_precision(recipe), circumstances()
    with kept_random_state(), quiet_libraries(), threads(recipe.threads), matmul_precision(precision.matmul):
        model = new_model(recipe, corpus.tokenizer)
        steps = float(recipe.steps)
        writer = CheckpointWriter(recipe, corpus, folder, lambda done: report(f"training {name}", done, steps))
        watching = LayerscopeCallback(
            TextSpec(n=recipe.watched), WATCHED, out=folder / "watch", name=name, resamples=WATCH_RESAMPLES
        )
        trainer = Trainer(
            model=model,
            args=_arguments(recipe, folder, bfloat16=precision.bfloat16),
            train_dataset=[{"input_ids": window, "labels": window} for window in corpus.train],
            processing_class=corpus.tokenizer,
            optimizers=_optimizer(model, recipe),
            callbacks=[writer, watching],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    train_losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    return ZooRecord(
        schema_version=SCHEMA_VERSION,
        **begun,
        name=name,
        recipe=recipe,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        train_leads=corpus.n_train_leads,
        train_tokens=corpus.train.numel(),
        held_out_leads=len(corpus.held_out_leads),
        held_out_tokens=writer.held_out.numel(),
        texts_revision=corpus.revision,
        losses=tuple(loss.model_copy(update={"train": train_losses.get(loss.step)}) for loss in writer.losses),
        seconds=round(time.perf_counter() - writer.started, 1),
        watch_seconds=watching.watch.seconds,
        warnings=tuple(f"step {step.step} {step.reason}" for step in watching.watch.steps if step.reason),
        precision=precision.text,
    )


def choose_precision(recipe: Recipe) -> Arithmetic:
    """The recipe's precision where this processor has it in hardware, else float32, with fast products where exact."""
    if recipe.precision == "bfloat16" and choose_dtype("auto", _CPU) == torch.bfloat16:
        matmul = torch.get_float32_matmul_precision()
        return Arithmetic(bfloat16=True, matmul=matmul, text="bfloat16 autocast, float32 weights")
    if fast_matmul_error(_CPU) < FAST_MATMUL_ERROR:
        return Arithmetic(bfloat16=False, matmul="medium", text="float32, fast products")
    return Arithmetic(bfloat16=False, matmul="highest", text="float32")


def learning_rate_factor(recipe: Recipe) -> Callable[[int], float]:
    """The learning rate of the step after `done` steps, as a share of the recipe's: linear warm-up, then half a cosine.

    Warm-up starts at 1 / warmup, not at 0, where the first step would change nothing.
    """

    def factor(done: int) -> float:
        if done < recipe.warmup:
            return (done + 1) / recipe.warmup
        along = min(1.0, (done - recipe.warmup) / max(1, recipe.steps - recipe.warmup))
        return recipe.least_rate + (1 - recipe.least_rate) * (1 + math.cos(math.pi * along)) / 2

    return factor


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, windows: Int64[Tensor, "windows window"], batch: int = 4) -> float:
    """Mean cross-entropy of the next token over the windows, in nats; the model's mode is as before afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.autocast("cpu", enabled=False):
            parts = torch.split(windows, batch)
            return sum(float(model(input_ids=part, labels=part).loss) * len(part) for part in parts) / len(windows)
    finally:
        model.train(training)


def write_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model folder in float16, whole or not at all.

    Raises:
        RunFailedError: the weights hold NaN or infinity, in float32 or once in float16.
    """
    check_finite(model, folder.name)
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in model.state_dict().items()}
    large = [key for key, tensor in half.items() if not bool(torch.isfinite(tensor).all())]
    if large:
        raise RunFailedError(f"{large[0]} of {folder.name} would hold NaN or infinity in float16: training diverged")
    with whole_file(folder) as temporary:
        model.save_pretrained(temporary, state_dict=half)
        tokenizer.save_pretrained(temporary)
        config = json.loads((temporary / "config.json").read_text(encoding="utf-8"))
        # As the file is, and as a model that is no longer in training is used.
        config |= {"dtype": "float16", "use_cache": True}
        (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@dataclass
class CheckpointWriter(TrainerCallback):  # type: ignore[misc]
    """Writes a checkpoint and takes the held-out loss at the recipe's steps; `report` is told of every step."""

    recipe: Recipe
    corpus: Corpus
    folder: Path
    report: Callable[[float], None]
    losses: list[StepLoss] = field(default_factory=list)
    started: float = 0.0

    @property
    def held_out(self) -> Int64[Tensor, "windows window"]:
        """The windows the loss is taken over: evenly spread, so that they stand for all."""
        windows = self.corpus.held_out
        return windows[:: max(1, math.ceil(len(windows) / HELD_OUT_WINDOWS))]

    def on_train_begin(self, _: TrainingArguments, state: TrainerState, __: TrainerControl, **given: Any) -> None:  # noqa: ANN401
        """Step 0."""
        self.started = time.perf_counter()
        self._keep(given["model"], state.global_step)

    def on_step_end(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:  # noqa: ANN401
        """The other steps; the Trainer then logs its mean loss since the checkpoint before."""
        if state.global_step in self.recipe.checkpoints:
            self._keep(given["model"], state.global_step)
            control.should_log = True
        self.report(float(state.global_step))

    def _keep(self, model: PreTrainedModel, step: int) -> None:
        write_checkpoint(model, self.corpus.tokenizer, self.folder / f"step{step}")
        loss = held_out_loss(model, self.held_out)
        self.losses.append(StepLoss(step=step, held_out=loss, seconds=round(time.perf_counter() - self.started, 1)))


def _optimizer(
    model: PreTrainedModel, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    # Norms, biases and a state-space model's rates have a meaning at their own size.
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(recipe))


def _arguments(recipe: Recipe, folder: Path, *, bfloat16: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch,
        max_grad_norm=1.0,
        bf16=bfloat16,
        seed=recipe.seed,
        data_seed=recipe.seed,
        # A GPU would give other weights: the recipe is one for every machine.
        use_cpu=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
