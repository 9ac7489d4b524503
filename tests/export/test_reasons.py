"""What a run says fills in what was not given, and is refused where it is about something else."""

import json
import shutil

import polars as pl
import pytest
from tests.export.scored import TASKS, save_scores
from tests.picking.folders import write_metrics
from tests.picking.tables import metric_table
from tests.results.records import save

import layerscope as ls
from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.export.export import export_layer
from layerscope.export.reasons import read_choice, require_same_model
from layerscope.export.spec import ExportSpec
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import load_model
from layerscope.results.record import read_record
from layerscope.tasks.record import TasksRecord


@pytest.fixture(scope="module")
def model(reader):
    return load_model(ModelSpec(name=str(reader)))


@pytest.fixture
def run(model, tmp_path):
    return save_scores(tmp_path / "run", model.spec.name, model.revision, readouts=("normed", "raw"), context=100)


def test_the_recommended_setting_layer_and_context(run):
    spec, reasons = read_choice(run, ExportSpec())
    assert (spec.layer, spec.readout, spec.positions, spec.pooling, spec.context) == (2, "normed", "all", "mean", 100)
    assert reasons.recommended == 2
    assert reasons.score(2)["average"] == pytest.approx(0.3 + 0.03 * 3 + 0.3, abs=0.005)
    assert reasons.score(2)["in_set"]
    assert not reasons.score(3)["in_set"]
    assert reasons.score(9) is None


def test_the_layer_is_the_one_that_was_picked_whatever_it_was_picked_by(run):
    picked = ls.pick(run, margin=0.5, seed=7)
    spec, reasons = read_choice(run, ExportSpec())
    assert (spec.layer, reasons.recommended) == (picked.layer, picked.layer) == (0, 0)
    assert reasons.picked.answer == picked.answer
    assert reasons.picked.asked.seed == 7


def test_a_pick_by_metrics_is_exported_as_it_was_picked(run):
    dime = metric_table([0.3, 0.2, 0.1, 0.0], metric="dime", alpha=1.0, pooling="mean")
    write_metrics(run, dime.with_columns(revision=pl.lit(read_record(TasksRecord, run).resolved.model_revision)))
    picked = ls.pick(run, by="metrics")
    spec, reasons = read_choice(run, ExportSpec(readout="raw"))
    assert reasons.selection.recommended == 1
    assert (spec.layer, reasons.recommended) == (picked.layer, picked.layer) == (2, 2)


def test_scores_that_changed_since_the_pick_are_said(run, reader, tmp_path):
    ls.pick(run)
    scores = pl.read_parquet(run / "scores.parquet")
    scores.with_columns(layer=(pl.col("layer") + 1) % 4).write_parquet(run / "scores.parquet")
    save(read_record(TasksRecord, run), run)
    made = export_layer(str(reader), out=tmp_path / "out", run=run)
    assert made.layer == 3
    assert (
        f"{run / 'pick.json'} was made before the scores changed: chosen again, layer 3 instead of 2" in made.warnings
    )


def test_the_scores_of_another_folder_are_those_that_were_picked_from(run, tmp_path):
    dime = metric_table([0.3, 0.2, 0.1, 0.0], metric="dime", alpha=1.0, pooling="mean")
    metrics = write_metrics(tmp_path / "metrics", dime)
    ls.pick(metrics, scores=run)
    spec, reasons = read_choice(metrics, ExportSpec())
    assert (spec.layer, reasons.picked.origin.revision) == (2, read_record(TasksRecord, run).resolved.model_revision)


def test_what_is_given_stays_and_the_rest_is_of_its_setting(run):
    spec, reasons = read_choice(run, ExportSpec(readout="raw"))
    assert (spec.layer, spec.readout) == (1, "raw")
    assert reasons.selection.readout == "raw"
    spec, reasons = read_choice(run, ExportSpec(layer=3, context=50))
    assert (spec.layer, spec.context, reasons.recommended) == (3, 50, 2)


def test_a_setting_that_was_not_scored(run):
    with pytest.raises(UserError, match=r"has no scores with pooling last .*normed/all/mean, raw/all/mean"):
        read_choice(run, ExportSpec(pooling="last"))


def test_scores_of_other_weights_or_another_way_to_run_them(model, run, reader, tmp_path):
    _, reasons = read_choice(run, ExportSpec())
    require_same_model(reasons, model)
    both = load_model(ModelSpec(name=str(reader), bidirectional=True))
    with pytest.raises(UserError, match="bidirectional=False, and here it is True"):
        require_same_model(reasons, both)
    other = save_scores(tmp_path / "other", "elsewhere/model", "sha256:0")
    with pytest.raises(UserError, match=r"is about elsewhere/model \(revision sha256:0\)"):
        export_layer(str(reader), out=tmp_path / "out", run=other)
    assert not (tmp_path / "out").exists()


def test_scores_with_another_tokenizer_beside_equal_weights(model, reader, tmp_path):
    folder = shutil.copytree(reader, tmp_path / "model")
    tokenizer = model_identity(ModelSpec(name=str(folder)))["tokenizer_revision"]
    run = save_scores(tmp_path / "run", str(folder), model.revision, tokenizer=tokenizer)
    _, reasons = read_choice(run, ExportSpec())
    require_same_model(reasons, load_model(ModelSpec(name=str(folder))))
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"do_lower_case": True}))
    with pytest.raises(UserError, match=rf"made with another tokenizer \(revision {tokenizer}\)"):
        export_layer(str(folder), out=tmp_path / "out", run=run)
    assert not (tmp_path / "out").exists()


def test_imported_scores_say_nothing_about_weights(model, tmp_path):
    run = save_scores(tmp_path / "run", "m", "", imported=True)
    spec, reasons = read_choice(run, ExportSpec(readout="raw"))
    assert (spec.layer, spec.readout) == (2, "raw")
    require_same_model(reasons, model)


def test_the_card_holds_the_evidence(run, reader, tmp_path):
    made = export_layer(str(reader), out=tmp_path / "out", run=run)
    assert (made.layer, made.spec.context) == (2, 100)
    card = (made.path / "README.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line for line in card.splitlines() if line.startswith("| ")}
    assert rows["this model"].split(" | ")[1:3] == ["2", "0.692"]
    assert rows["last"].split(" | ")[1:3] == ["3", "0.592"]
    assert rows["last"].endswith("| no |")
    assert f"7 tasks: {', '.join(TASKS)}; may lose: at most so much, at one-sided 95 %" in card
    assert "- 7 tasks tell layer 2 from every other layer" in card
    assert "not the recommended" not in card
    other = export_layer(str(reader), 1, out=tmp_path / "one", run=run)
    assert "**Exported was layer 1, not the recommended layer 2.**" in (other.path / "README.md").read_text()


def test_the_card_says_what_the_run_says_about_the_states_that_are_exported(run, reader, tmp_path):
    """Of the two settings that were scored, normed is recommended and ends at layer 2."""
    made = export_layer(str(reader), out=tmp_path / "out", run=run, readout="raw")
    card = (made.path / "README.md").read_text()
    assert "Use layer 1: it has the highest average" in card
    assert "Use layer 2" not in card


def test_a_run_that_is_none(reader, tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        export_layer(str(reader), out=tmp_path / "out", run=tmp_path / "missing")
    with pytest.raises(UserError, match="neither metrics nor scores"):
        export_layer(str(reader), out=tmp_path / "out", run=tmp_path)
    assert list(tmp_path.iterdir()) == []
