"""LayerscopeCallback: how the representations of every layer change while a model trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState

from layerscope.config import ModelSpec, TextSpec
from layerscope.errors import UserError
from layerscope.measuring.measure import measure_model, run_spec
from layerscope.measuring.plan import make_plan
from layerscope.results.run import Run
from layerscope.tasks.process import kept_random_state
from layerscope.training.reporting import log_to_reporters, scalars
from layerscope.training.watch import Watch, WatchedStep, is_log_step, read_watch

_PROMPTS = 64
logger = logging.getLogger("layerscope")


class LayerscopeCallback(TrainerCallback):  # type: ignore[misc]
    """Measures the model in training at step 0, 1, 2, 4, ... and the last step, or every so many.

    Each measurement is an ordinary run, in OUT/stepN, which `layerscope table`, `query` and `report` read. Its values are
    also scalars such as layerscope/prompt_entropy/layer_03 in the Trainer's history and, once `attach` has told the
    callback its Trainer, in whatever that reports to. Training is the same bit for bit with and without it. What goes
    wrong in it is a line in the log and in OUT/watch.json, and training goes on; OUT/watch.json also says what it cost.
    """

    def __init__(
        self,
        texts: str | TextSpec = "wiki",
        metrics: tuple[str, ...] | list[str] | str = ("prompt_entropy", "curvature"),
        every: int | None = None,
        *,
        out: str | Path | None = None,
        name: str | None = None,
        **options: object,
    ) -> None:
        """Say what to measure; nothing is loaded yet.

        Args:
            texts: a text name (see `layerscope texts`), a file, hub:org/name (64 prompts of it), or a TextSpec.
            metrics: names of metrics; those that need attention weights cannot be had in training.
            every: measure every so many steps; None is 1, 2, 4, 8, ... Step 0 and the last are always measured.
            out: the folder of the runs; None is layerscope/ in the Trainer's output folder.
            name: what the runs call the model, followed by @stepN; None is the name of the Trainer's output folder.
            **options: the other fields of RunSpec: variants, readouts, positions, normalizations, resamples, ...

        Raises:
            UserError: a metric or option that does not exist. This is before training, so it does stop.
        """
        if every is not None and every < 1:
            raise UserError(f"expected every to be at least 1 step, got {every}")
        chosen = TextSpec(source=texts, n=_PROMPTS) if isinstance(texts, str) else texts
        self.spec = run_spec("training", chosen, {"metrics": metrics, **options})
        make_plan(self.spec)
        self.every = every
        self.out = None if out is None else Path(out)
        self.name = name
        self.watch = Watch()
        self._steps: dict[str, int] = {}
        self._trainer: Trainer | None = None
        self._started = time.perf_counter()

    def attach(self, trainer: Trainer) -> LayerscopeCallback:
        """Watch this Trainer's run, and log to whatever it reports to (TensorBoard, W&B, MLflow, ...).

        A Trainer tells its callbacks nothing of the others, so `callbacks=[...]` alone is enough for everything but that.
        """
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        self._trainer = trainer
        return self

    def due(self, step: int) -> bool:
        """Whether a step is one to measure at, apart from the last one."""
        return step == 0 or (is_log_step(step) if self.every is None else step % self.every == 0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, _: TrainerControl, **given: object) -> None:
        """Measure the initial weights; training that goes on from a checkpoint was measured there already."""
        self._started = time.perf_counter()
        self._steps = {}
        if args.report_to and self._trainer is None and state.is_world_process_zero:
            logger.warning(
                "layerscope: values go to the run folders and the Trainer's history; with callback.attach(trainer) also to %s",
                ", ".join(args.report_to),
            )
        self.out = self.out or Path(args.output_dir) / "layerscope"
        self.watch = Watch()
        with _never_breaking_training(state.global_step, "goes on without the looks before it"):
            self.watch = read_watch(self.out).until(state.global_step)
        if state.global_step == 0:
            self._look(args, state, given, trainer=self._trainer)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: object
    ) -> None:
        """Measure where the step is due, and at the last one: once training has ended, reporters have closed."""
        if self.due(state.global_step) or state.global_step >= state.max_steps or control.should_training_stop:
            self._look(args, state, given, trainer=self._trainer)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: object
    ) -> None:
        """Measure the last step of a training that ends before its time, while the weights are still its own."""
        if control.should_training_stop and state.global_step not in self.watch.measured:
            self._look(args, state, given, trainer=self._trainer)

    # An evaluation can end it, as early stopping does; saving follows the evaluation, for callbacks behind this one.
    on_evaluate = on_save = on_epoch_end

    def on_train_end(self, args: TrainingArguments, state: TrainerState, _: TrainerControl, **given: object) -> None:
        """Measure the last step, where training ended before its time and nothing said so earlier."""
        if state.global_step in self.watch.measured or not state.is_world_process_zero:
            return
        if not (args.load_best_model_at_end and state.best_model_checkpoint):
            self._look(args, state, given)
            return
        # A Trainer loads its best checkpoint before it says that training has ended.
        step, best = state.global_step, Path(state.best_model_checkpoint).name
        reason = (
            f"was not measured: the Trainer had put the weights of its best checkpoint, {best}, in place of the last"
        )
        logger.warning("layerscope: step %d %s", step, reason)
        self._note(WatchedStep(step=step, folder=f"step{step}", reason=reason))

    def _look(
        self, args: TrainingArguments, state: TrainerState, given: dict[str, object], *, trainer: Trainer | None = None
    ) -> None:
        if not state.is_world_process_zero:
            return
        assert self.out is not None
        start = time.perf_counter()
        step, folder = state.global_step, self.out / f"step{state.global_step}"
        first = step
        with _never_breaking_training(step, "was not measured") as trouble:
            run = self._measure(args, given, step, folder)
        seconds = round(time.perf_counter() - start, 3)
        if not trouble:
            first = self._steps.setdefault(run.record.resolved.model_revision, step)
            if first != step:
                logger.warning("layerscope: the weights at step %d are those of step %d", step, first)
            logs = scalars(run.layers) | {"layerscope/seconds": seconds}
            state.log_history.append({**logs, "epoch": state.epoch, "step": step})
            with _never_breaking_training(step, "was measured but not reported") as trouble:
                if trainer is not None:
                    log_to_reporters(trainer, logs)
        spent = {"seconds": seconds, "training_seconds": round(start - self._started, 3)}
        same_as = None if first == step else first
        self._note(WatchedStep(step=step, folder=folder.name, same_as=same_as, reason="; ".join(trouble), **spent))

    def _note(self, step: WatchedStep) -> None:
        assert self.out is not None
        self.watch = self.watch.adding(step)
        with _never_breaking_training(step.step, "is not in watch.json"):
            self.watch.write(self.out)

    def _measure(self, args: TrainingArguments, given: dict[str, object], step: int, folder: Path) -> Run:
        model, tokenizer = given.get("model"), given.get("processing_class")
        if not isinstance(model, nn.Module):
            raise UserError("the Trainer handed over no model")
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise UserError("the Trainer has no tokenizer: give it one, Trainer(processing_class=tokenizer, ...)")
        if getattr(args, "deepspeed", None) or getattr(args, "fsdp", None):
            raise UserError(
                "the weights are spread over processes (FSDP, DeepSpeed): measure saved checkpoints instead"
            )
        name = f"{self.name or Path(args.output_dir).resolve().name}@step{step}"
        spec = self.spec.model_copy(update={"model": ModelSpec(name=name)})
        with kept_random_state():
            return measure_model(model, tokenizer, spec, folder)


@contextmanager
def _never_breaking_training(step: int, consequence: str) -> Iterator[list[str]]:
    """Turn any error into a line in the log and in the list: hours of training are worth more than a measurement."""
    trouble: list[str] = []
    try:
        yield trouble
    except Exception as error:  # noqa: BLE001
        trouble.append(f"{consequence}: " + " ".join(f"{type(error).__name__}: {error}".split()))
        logger.warning("layerscope: step %d %s; training goes on", step, trouble[0])
