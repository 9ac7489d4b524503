"""Each study from its grid to its findings, on tiny random models: what they find is noise, that they find it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from layerscope.errors import UserError
from layerscope.figures import FACETS
from layerscope.studies.catalogue import STUDIES
from layerscope.studies.jobs import Results
from layerscope.studies.study import run_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


def run(name, out, **given):
    study = STUDIES[name]
    return run_study(study, study.spec("small", {"dtype": "float32", **given}), out)


def check_files(done, figures):
    """Every figure is there in three forms, its data is what is drawn, and the findings can be read."""
    for name in figures:
        assert (done.path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (done.path / f"{name}.svg").read_text()
        data = pl.read_parquet(done.path / f"{name}.parquet")
        assert data.schema == FACETS
        assert len(data)
    content = json.loads((done.path / "findings.json").read_text())
    assert [finding["verdict"] for finding in content["findings"]] == [finding.verdict for finding in done.findings]
    for finding in done.findings:
        assert finding.value != finding.value or finding.ci_low <= finding.value <= finding.ci_high
    return {name: pl.read_parquet(done.path / f"{name}.parquet") for name in figures}


def lines(data):
    return data["line"].unique(maintain_order=True).to_list()


def test_checkpoints_and_architectures_share_the_last_step(tiny_pair, tiny_texts, out):
    common = {"texts": tiny_texts, "n": 8}
    done = run("checkpoints", out, models=tiny_pair, steps=(8, 64), **common)
    data = check_files(done, ["checkpoints"])["checkpoints"]
    assert lines(data) == ["step 8", "step 64"]
    assert data["column"].unique(maintain_order=True).to_list() == ["tiny-neox", "tiny-mamba2"]
    assert {finding.claim_id for finding in done.findings} == {
        "middle-moves-most",
        "middle-compressed",
        "pooled-middle",
    }
    before = set((out / "runs").iterdir())
    last = tuple(f"{model}@step64" for model in tiny_pair)
    done = run("architectures", out, models=last, **common)
    assert set((out / "runs").iterdir()) == before
    data = check_files(done, ["architectures"])["architectures"]
    assert lines(data) == ["tiny-neox@step64", "tiny-mamba2@step64"]
    assert data["row"].n_unique() == 6
    assert data["x"].unique().sort().to_list() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    compared = [finding for finding in done.findings if finding.claim_id == "transformer-changes-more"]
    assert [finding.about.partition(",")[0] for finding in compared] == [
        "Prompt entropy", "Curvature", "InfoNCE", "LiDAR", "DiME"
    ]  # fmt: skip
    assert all(finding.n == 8 for finding in compared)
    assert any("in nats, since both models have one tokenizer" in note for note in done.notes)


def test_a_missing_checkpoint_is_named_and_the_others_go_on(tiny_pair, tiny_texts, tmp_path):
    done = run("random-prompts", tmp_path, models=(tiny_pair[0],), tokens=(16,), n=6, steps=(0, 3, 64))
    ((key, reason),) = done.missing.items()
    assert key.endswith("tiny-neox 3")
    assert "has no revision 'step3'" in reason
    data = check_files(done, ["random-prompts"])["random-prompts"]
    assert lines(data) == ["step 0", "step 64"]
    assert any("step3" in note for note in done.notes)
    with pytest.raises(UserError, match="takes one length"):
        run("random-prompts", tmp_path / "other", models=(tiny_pair[0],), tokens=(16, 32))


def test_without_steps_all_checkpoints_of_a_folder_are_taken(tiny_pair):
    study = STUDIES["random-prompts"]
    jobs = study.jobs(study.spec("small", {"models": (tiny_pair[0],)}))
    assert [job.key.rpartition(" ")[2] for job in jobs] == ["0", "1", "8", "64"]


def test_extremes_show_their_prompts_and_their_slopes(tiny_pair, tiny_texts, tmp_path):
    model = f"{tiny_pair[0]}@step64"
    settings = {"models": (model,), "texts": tiny_texts, "n": 10, "context": 32, "shares": (0.5, 1), "tokens": (8, 16)}
    done = run("extremes", tmp_path, **settings)
    data = check_files(done, ["repetition", "randomness", "length"])
    assert lines(data["repetition"]) == ["0", "0.5", "1"]
    assert lines(data["length"]) == ["8", "16"]
    assert data["repetition"]["row"].unique(maintain_order=True).to_list() == ["raw", "normalised"]
    found = {(finding.claim_id, finding.about): finding for finding in done.findings}
    # Even random weights make fewer directions of one token than of many, and more of many tokens than of few.
    assert found["repetition", "tiny-neox@step64"].value < 0
    assert found["length", "tiny-neox@step64"].verdict == "holds"
    page = (done.path / "examples-tiny-neox@step64.md").read_text()
    assert {line for line in page.splitlines() if line.startswith("## ")} == {
        "## as they are", "## repetition:0.5", "## repetition:1", "## randomness:0.5", "## randomness:1", "## random:8",
        "## random:16",
    }  # fmt: skip
    repeated = page.split("## repetition:1")[1].split("##")[0]
    words = [set(line.removesuffix(" ...").split()) for line in repeated.splitlines() if line.startswith("    ")]
    assert [len(one) for one in words] == [1, 1]


def test_alpha_draws_the_closed_form_and_real_states(tiny_pair, tiny_texts, tmp_path):
    done = run("alpha", tmp_path, models=(f"{tiny_pair[0]}@step8",), texts=tiny_texts, n=6, context=64)
    data = check_files(done, ["power-law", "states"])
    assert lines(data["power-law"]) == lines(data["states"]) == [f"α = {a}" for a in ("0.5", "1", "1.5", "2", "5", "∞")]
    assert {finding.claim_id for finding in done.findings} == {"order-keeps-shape", "power-law"}


def test_table1_and_readouts_score_every_layer(tiny, tmp_path, monkeypatch):
    pytest.importorskip("mteb")
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "cache"))
    # Processes that score would take longer to start than to score.
    monkeypatch.setattr("layerscope.tasks.run.default_workers", lambda: 1)
    model, depth = str(tiny), json.loads((tiny / "config.json").read_text())["num_hidden_layers"]
    own = Path(__file__).parent.parent / "tasks" / "own_tasks.py"
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(" ".join(f"w{(i * 7 + k) % 50 + 40}" for k in range(12)) for i in range(8)))
    tasks = f"{own}:OwnSTS,{own}:OwnClassification"
    done = run("table1", tmp_path, models=(model,), tasks=tasks, context=64)
    data = check_files(done, ["table1"])["table1"]
    assert (lines(data), len(data) // 3) == ([tiny.name], depth + 1)
    row = pl.read_parquet(done.path / "comparison.parquet").row(0, named=True)
    assert (row["n_tasks"], row["n_layers"]) == (2, depth + 1)
    assert any("best layer is not the last in" in note for note in done.notes)
    done = run("readouts", tmp_path, models=(model,), tasks=tasks, texts=str(texts), n=8, context=64)
    data = check_files(done, ["readouts"])["readouts"]
    assert lines(data) == ["raw, all", "raw, no-first", "normed, all", "normed, no-first"]
    assert data["row"].unique(maintain_order=True).to_list() == ["average", "task", "entropy"]
    assert data["column"].n_unique() == 4
    assert len({finding.claim_id for finding in done.findings}) == 5
    assert all(finding.over == "tasks" for finding in done.findings if finding.claim_id != "valley-is-first-token")


def test_mmlu_relates_entropy_and_accuracy(tmp_path):
    pytest.importorskip("lm_eval")
    from tests.mmlu.conftest import make_rows, save_tiny

    model = str(save_tiny(tmp_path / "model", merges=True))
    questions = tmp_path / "questions.parquet"
    pl.DataFrame(make_rows(6)).write_parquet(questions)
    done = run("mmlu", tmp_path, models=(model,), questions=str(questions), shots=0)
    data = check_files(done, ["mmlu"])["mmlu"]
    assert lines(data) == ["model", "model, length taken out"]
    (finding,) = [finding for finding in done.findings if finding.claim_id == "entropy-goes-with-accuracy"]
    assert (finding.over, finding.n) == ("subjects", 5)
    assert 0 <= finding.value <= 1
    assert any("questions right" in note for note in done.notes)


def test_no_two_checkpoints_are_an_error(tiny_pair, tmp_path):
    spec = STUDIES["checkpoints"].spec("small", {"models": (tiny_pair[0],)})
    with pytest.raises(UserError, match="no model has two checkpoints"):
        STUDIES["checkpoints"].analyse(spec, Results({}))
    shutil.rmtree(tmp_path)
