"""Watching a training run: the runs it leaves, what it logs, that training does not notice, and that nothing stops it."""

from __future__ import annotations

import json
import logging
import random
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests.families import FAMILIES, build_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import integration_utils

import layerscope
from layerscope.errors import DamagedError, UserError
from layerscope.training.callback import LayerscopeCallback
from layerscope.training.reporting import scalars
from layerscope.training.watch import read_watch


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("".join(" ".join(f"w{draw.randrange(4, 96)}" for _ in range(12)) + "\n" for _ in range(6)))
    return str(path)


@pytest.fixture
def trainer(family_folder, tmp_path):
    """Makes a Trainer of a tiny model with dropout, which draws from the global generator in every step."""

    def make(*callbacks, family="gpt-neox", steps=5, tokenizer=True, **arguments):
        torch.manual_seed(0)  # some families draw what build_model leaves alone
        options = {"hidden_dropout": 0.1} if family == "gpt-neox" else {}
        model = build_model(FAMILIES[family], auto_class=AutoModelForCausalLM, **options)
        ids = torch.randint(4, 96, (16, 12), generator=torch.Generator().manual_seed(0))
        return Trainer(
            model=model,
            args=TrainingArguments(
                **{"output_dir": str(tmp_path / "out"), "max_steps": steps, "per_device_train_batch_size": 2}
                | {"use_cpu": True, "dataloader_pin_memory": False, "save_strategy": "no", "report_to": "none"}
                | {"logging_steps": 2, "disable_tqdm": True, "seed": 3}
                | arguments
            ),
            train_dataset=[{"input_ids": row, "labels": row} for row in ids],
            eval_dataset=[{"input_ids": row, "labels": row} for row in ids.flip(1)],
            processing_class=AutoTokenizer.from_pretrained(family_folder("gpt-neox")) if tokenizer else None,
            callbacks=list(callbacks),
        )

    return make


def watch_file(folder):
    return json.loads((folder / "watch.json").read_text())


def test_every_doubling_and_both_ends_are_ordinary_runs(trainer, texts, tmp_path):
    watching = LayerscopeCallback(texts, ["prompt_entropy", "curvature"], name="tiny")
    training = trainer(watching)
    training.train()
    out = tmp_path / "out" / "layerscope"
    assert sorted(path.name for path in out.iterdir()) == ["step0", "step1", "step2", "step4", "step5", "watch.json"]
    runs = [layerscope.load_run(out / f"step{step}") for step in (0, 1, 2, 4, 5)]
    assert [run.record.spec.model.name for run in runs] == [f"tiny@step{step}" for step in (0, 1, 2, 4, 5)]
    counted = layerscope.query_runs("select count(*) as n from layers where metric = 'curvature' and layer = 3", runs)
    assert counted["n"].item() == 5
    assert len({run.record.resolved.model_revision for run in runs}) == 5
    # The last run is of the weights that training ended with.
    training.model.save_pretrained(tmp_path / "saved")
    training.processing_class.save_pretrained(tmp_path / "saved")
    saved = layerscope.measure(str(tmp_path / "saved"), texts, metrics=["prompt_entropy", "curvature"])
    assert saved.layers["value"].to_list() == runs[-1].layers["value"].to_list()


def test_every_so_many_steps(trainer, texts, tmp_path):
    trainer(LayerscopeCallback(texts, "curvature", every=2, out=tmp_path / "w")).train()
    assert [step["step"] for step in watch_file(tmp_path / "w")["steps"]] == [0, 2, 4, 5]


@pytest.mark.parametrize("family", ["gpt-neox", "mamba2"])
def test_training_is_the_same_bit_for_bit_with_and_without(trainer, texts, tmp_path, family):
    ends = []
    for callbacks in ((), (LayerscopeCallback(texts, ["prompt_entropy", "infonce"], every=1, out=tmp_path / "w"),)):
        training = trainer(*callbacks, family=family)
        training.train()
        losses = [entry["loss"] for entry in training.state.log_history if "loss" in entry]
        generators = (random.random(), np.random.get_state()[1].tolist(), torch.rand(1).item())  # noqa: NPY002
        ends.append((training.model.state_dict(), losses, generators))
    assert not any(step["reason"] for step in watch_file(tmp_path / "w")["steps"])
    (bare, bare_losses, bare_draws), (watched, watched_losses, watched_draws) = ends
    assert all(torch.equal(tensor, watched[name]) for name, tensor in bare.items())
    assert bare_losses == watched_losses
    assert bare_draws == watched_draws


class StopAfter(TrainerCallback):
    """Ends training after a step that nobody could have foreseen."""

    def on_step_begin(self, args, state, control, **given):
        control.should_training_stop = False

    def on_log(self, args, state, control, logs=None, **given):
        control.should_training_stop = True


def test_training_that_ends_before_its_time_is_measured_at_its_end(trainer, texts, tmp_path):
    trainer(LayerscopeCallback(texts, "curvature", out=tmp_path / "w"), StopAfter(), logging_steps=3).train()
    assert [step["step"] for step in watch_file(tmp_path / "w")["steps"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("order", ["before", "behind", "attached", "by epoch"])
def test_a_last_step_is_never_labelled_with_the_best_ones_weights(trainer, texts, tmp_path, order):
    from transformers import EarlyStoppingCallback

    watching, stopping = LayerscopeCallback(texts, "curvature", out=tmp_path / "w"), EarlyStoppingCallback(2)
    callbacks = {"before": (watching, stopping), "behind": (stopping, watching)}.get(order, (stopping,))
    often = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 3, "save_steps": 3}
    if order == "by epoch":  # 16 rows in batches of 2: 8 steps
        often = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    training = trainer(
        *callbacks,
        **often,
        steps=80,
        learning_rate=0.05,  # far too large, so that the first evaluation is the best
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
    )
    if order in {"attached", "by epoch"}:
        watching.attach(training)
    saved = {}

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **given):
            saved[state.global_step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    training.add_callback(Keep())
    training.train()
    last, best = training.state.global_step, int(training.state.best_model_checkpoint.rpartition("-")[2])
    assert best < last < 80
    # Of the whole: the Trainer saves this family's head under another name than it looks for.
    core = {name: tensor for name, tensor in training.model.state_dict().items() if name.startswith("gpt_neox.")}
    assert all(torch.equal(tensor, saved[best][name]) for name, tensor in core.items())
    said = {step["step"]: step for step in watch_file(tmp_path / "w")["steps"]}
    assert said[last]["reason"] == ""
    # The right value: the weights of that step, measured from a folder.
    training.model.load_state_dict(saved[last])
    training.model.save_pretrained(tmp_path / "saved")
    training.processing_class.save_pretrained(tmp_path / "saved")
    right = layerscope.measure(str(tmp_path / "saved"), texts, metrics=["curvature"]).layers["value"].to_list()
    assert layerscope.load_run(tmp_path / "w" / f"step{last}").layers["value"].to_list() == right


def test_a_last_step_whose_weights_are_gone_is_not_measured(trainer, texts, tmp_path, caplog):
    class Forgets(LayerscopeCallback):
        """Stands for a Trainer that stops without a word."""

        def on_epoch_end(self, *_, **__):
            pass

        on_evaluate = on_save = on_epoch_end

    watching = Forgets(texts, "curvature", every=50, out=tmp_path / "w")
    training = trainer(
        watching,
        StopAfter(),
        steps=80,
        learning_rate=0.05,
        logging_steps=7,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=3,
        save_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
    )
    watching.on_step_end = lambda *_, **__: None
    training.train()
    [first, last] = watch_file(tmp_path / "w")["steps"]
    assert first["step"] == 0
    assert "the Trainer had put the weights of its best checkpoint" in last["reason"]
    assert "was not measured: the Trainer had put" in caplog.text
    assert not (tmp_path / "w" / last["folder"]).exists()


def test_a_step_that_changed_nothing_is_named(trainer, texts, tmp_path):
    trainer(LayerscopeCallback(texts, "curvature", out=tmp_path / "w"), steps=2, learning_rate=0.0).train()
    assert [step["same_as"] for step in watch_file(tmp_path / "w")["steps"]] == [None, 0, 0]


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_prompt_tuning_is_not_measured_as_the_model_without_it(trainer, texts, tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    training = trainer(LayerscopeCallback(texts, "curvature", out=tmp_path / "w"), steps=1)
    wrapped = get_peft_model(training.model, PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"))
    training.model = training.model_wrapped = wrapped
    training.train()
    for step in watch_file(tmp_path / "w")["steps"]:
        assert "PeftModelForCausalLM changes what GPTNeoXForCausalLM computes (prompt tuning)" in step["reason"]


class Recorder(TrainerCallback):
    """Stands in for TensorBoard and the like."""

    seen: ClassVar[list] = []

    def on_train_end(self, args, state, control, **given):
        Recorder.seen.append((state.global_step, {"closed": True}))

    def on_log(self, args, state, control, logs=None, model=None, **given):
        Recorder.seen.append((state.global_step, dict(logs)))


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(Recorder, "seen", [])
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    return Recorder


def test_scalars_go_to_what_the_trainer_reports_to_and_to_its_history(trainer, texts, tmp_path, recorder, capsys):
    training = trainer(report_to=["recorder"])
    LayerscopeCallback(texts, ["prompt_entropy"]).attach(training)
    training.train()
    ours = {step: logs for step, logs in recorder.seen if "layerscope/prompt_entropy/layer_03" in logs}
    assert list(ours) == [0, 1, 2, 4, 5]
    assert recorder.seen[-1] == (5, {"closed": True})  # nothing comes after a reporter has closed
    assert [step for step, logs in recorder.seen if "loss" in logs] == [2, 4]  # what the Trainer reports itself
    assert "layer_03" not in capsys.readouterr().out  # 60 numbers a step are not for the screen
    run = layerscope.load_run(tmp_path / "out" / "layerscope" / "step4")
    rows = run.layers.filter(layer=3)
    values = dict(zip(rows["normalization"], rows["value"], strict=True))
    assert ours[4]["layerscope/prompt_entropy/layer_03"] == values["none"]
    assert ours[4]["layerscope/prompt_entropy/max/layer_03"] == values["max"]
    assert ours[4]["layerscope/seconds"] > 0
    history = [entry for entry in training.state.log_history if "layerscope/prompt_entropy/layer_03" in entry]
    assert [entry["step"] for entry in history] == [0, 1, 2, 4, 5]


def test_a_callback_that_was_only_handed_over_says_how_to_reach_what_the_trainer_reports_to(
    trainer, texts, tmp_path, recorder, caplog
):
    watching = LayerscopeCallback(texts, ["curvature"])
    training = trainer(watching, report_to=["recorder"], steps=1)
    training.train()
    assert "with callback.attach(trainer) also to recorder" in caplog.text
    assert any("layerscope/curvature/layer_03" in entry for entry in training.state.log_history)
    assert not any("layerscope/curvature/layer_03" in logs for _, logs in recorder.seen)
    assert watching.attach(training) is watching
    assert training.callback_handler.callbacks.count(watching) == 1


def test_scalar_names_tell_curves_apart_and_leave_out_what_is_not_a_number(family_folder, texts):
    run = layerscope.measure(
        str(family_folder("gpt-neox")), texts, metrics=["curvature"], readouts=["raw", "normed"], positions=["all"]
    )
    names = scalars(run.layers)
    assert {"layerscope/curvature/layer_02", "layerscope/curvature/normed/layer_02"} <= set(names)
    assert len(names) == len(run.layers)
    missing = run.layers.with_columns(value=float("nan"))
    assert scalars(missing) == {}


def test_what_it_costs_is_recorded(trainer, texts, tmp_path):
    watching = LayerscopeCallback(texts, "curvature", out=tmp_path / "w")
    trainer(watching).train()
    said = watch_file(tmp_path / "w")
    assert said["seconds"] == pytest.approx(sum(step["seconds"] for step in said["steps"]), abs=1e-3)
    last = said["steps"][-1]
    assert said["share_of_time"] == pytest.approx(
        said["seconds"] / (last["training_seconds"] + last["seconds"]), abs=1e-3
    )
    assert 0 < said["share_of_time"] < 1
    starts = [step["training_seconds"] for step in said["steps"]]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"texts": "nowhere.txt"}, "nowhere.txt"), ({"tokenizer": False}, "the Trainer has no tokenizer: give it one")],
)
def test_an_error_is_a_warning_and_training_goes_on(trainer, texts, tmp_path, caplog, change, reason):
    watching = LayerscopeCallback(change.get("texts", texts), "curvature", out=tmp_path / "w")
    with caplog.at_level(logging.WARNING, logger="layerscope"):
        training = trainer(watching, tokenizer=change.get("tokenizer", True))
        training.train()
    assert training.state.global_step == 5
    steps = watch_file(tmp_path / "w")["steps"]
    assert [step["step"] for step in steps] == [0, 1, 2, 4, 5]
    assert all(reason in step["reason"] for step in steps)
    assert "step 4 was not measured" in caplog.text
    assert "training goes on" in caplog.text
    assert "layerscope/seconds" not in str(training.state.log_history)


def test_a_model_that_diverged_a_reporter_that_fails_and_a_folder_that_cannot_be_written(
    trainer, texts, tmp_path, recorder, monkeypatch, caplog
):
    def refuse(*_, **__):
        raise ConnectionError("no server")

    monkeypatch.setattr(
        Recorder, "on_log", lambda self, args, state, control, **given: refuse() if state.global_step == 0 else None
    )
    training = trainer(report_to=["recorder"], learning_rate=1e30)
    LayerscopeCallback(texts, "curvature", out=tmp_path / "w").attach(training)
    training.train()
    steps = {step["step"]: step["reason"] for step in watch_file(tmp_path / "w")["steps"]}
    assert steps[0] == "was measured but not reported: ConnectionError: no server"
    assert "hold NaN or infinity" in steps[5]
    (tmp_path / "file").write_text("")
    training = trainer(LayerscopeCallback(texts, "curvature", out=tmp_path / "file"))
    training.train()
    assert training.state.global_step == 5
    assert "is not in watch.json" in caplog.text


def test_the_runs_of_another_training_are_not_taken_for_this_ones(trainer, texts, tmp_path):
    trainer(LayerscopeCallback(texts, "curvature", out=tmp_path / "w"), steps=2).train()
    trainer(LayerscopeCallback(texts, "curvature", out=tmp_path / "w"), steps=2, learning_rate=1e-2).train()
    reasons = {step["step"]: step["reason"] for step in watch_file(tmp_path / "w")["steps"]}
    assert reasons[0] == ""  # the initial weights are the same
    assert "holds a run of other inputs (model_revision" in reasons[2]


def test_training_that_goes_on_from_a_checkpoint_goes_on_being_watched(trainer, texts, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2}
    trainer(LayerscopeCallback(texts, "curvature"), steps=2, **options).train()
    trainer(LayerscopeCallback(texts, "curvature"), steps=5, **options).train(resume_from_checkpoint=True)
    out = tmp_path / "out" / "layerscope"
    assert [step["step"] for step in watch_file(out)["steps"]] == [0, 1, 2, 4, 5]
    assert not any(step["reason"] for step in watch_file(out)["steps"])


def test_a_mistake_in_what_is_asked_is_an_error_before_training(texts):
    with pytest.raises(UserError, match="unknown metric 'curvatur'"):
        LayerscopeCallback(texts, ["curvatur"])
    with pytest.raises(UserError, match="readouts"):
        LayerscopeCallback(texts, readouts=["cooked"])
    with pytest.raises(UserError, match="expected every to be at least 1 step, got 0"):
        LayerscopeCallback(texts, every=0)


def test_it_is_a_public_name():
    assert layerscope.LayerscopeCallback is LayerscopeCallback


@pytest.mark.parametrize("content", ["{", '{"steps": 3}', "[]", '{"schema_version": 2, "steps": []}'])
def test_a_watch_file_of_odd_content_is_named_and_training_goes_on(trainer, texts, tmp_path, caplog, content):
    out = tmp_path / "w"
    out.mkdir()
    (out / "watch.json").write_text(content)
    with pytest.raises(DamagedError, match=r"watch\.json .*: delete it, the runs beside it say what was measured"):
        read_watch(out)
    trainer(LayerscopeCallback(texts, "curvature", out=out), steps=1).train()
    assert "goes on without the looks before it: DamagedError" in caplog.text
    assert [step.step for step in read_watch(out).steps] == [0, 1]


def test_a_watch_file_of_an_older_version_is_read(tmp_path):
    old = {"seconds": 1.5, "share_of_time": 0.5, "steps": [{"step": 0, "folder": "step0", "seconds": 1.5}]}
    (tmp_path / "watch.json").write_text(json.dumps(old))
    assert [step.folder for step in read_watch(tmp_path).steps] == ["step0"]
