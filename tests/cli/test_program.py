"""The program as a user runs it: verbs, exit codes, one sentence on stderr, Ctrl-C."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

PROGRAM = [sys.executable, "-m", "layerscope"]


def run(*words, **options):
    environment = {**os.environ, "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def texts_file(tmp_path_factory):
    draw = random.Random(1)
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("".join(" ".join(f"w{draw.randrange(40, 96)}" for _ in range(20)) + "\n" for _ in range(12)))
    return path


@pytest.fixture(scope="module")
def finished(family_folder, texts_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = run("measure", family_folder("llama"), "--texts", texts_file, "--views", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_measure_prints_a_table_of_100_columns_and_writes_a_run(finished):
    out, done = finished
    assert {"run.json", "layers.parquet", "prompts.parquet"} <= {path.name for path in out.iterdir()}
    assert "prompt entropy" in done.stdout.replace("_", " ")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "12 prompts" in done.stdout
    assert "measuring" in done.stderr
    assert json.loads((out / "run.json").read_text())["spec"]["views"]["views"] == 2


def test_the_same_command_again_reads_the_run(finished, family_folder, texts_file):
    out, first = finished
    again = run("measure", family_folder("llama"), "--texts", texts_file, "--views", 2, "--out", out)
    assert again.returncode == 0
    assert again.stdout == first.stdout


def test_options_reach_the_spec(family_folder, texts_file, tmp_path):
    words = "--metrics curvature,prompt_entropy --alphas 1,inf --readouts raw,normed --positions no-first --layers 0,3 --n 5"
    done = run(
        "measure", family_folder("llama"), "--texts", texts_file, *words.split(), "--quiet", "--out", tmp_path / "r"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    layers = pl.read_parquet(tmp_path / "r" / "layers.parquet")
    assert set(layers["layer"]) == {0, 3}
    assert set(layers["alpha"].drop_nulls()) == {1.0, float("inf")}
    assert set(layers["readout"]) == {"raw", "normed"}
    assert set(layers["positions"]) == {"no-first"}


def test_table_query_and_report(finished, tmp_path):
    out, _ = finished
    table = run("table", out, "--metrics", "curvature")
    assert table.returncode == 0
    assert "curvature" in table.stdout
    found = run("query", "select count(*) as n from layers where metric = 'curvature'", out, "--format", "csv")
    assert found.stdout == "n\n4\n"
    page = run("report", out, "--out", tmp_path / "report.html")
    assert page.returncode == 0
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_report_shows_what_was_measured_and_not_what_the_file_holds_now(family_folder, program, tmp_path):
    (tmp_path / "texts.txt").write_text("w41 w42 w43\nw44 w44 w45\nw46 w47 w40\n")
    words = ["measure", family_folder("llama"), "--texts", tmp_path / "texts.txt", "--metrics", "prompt_entropy"]
    assert program(*words, "--quiet", "--out", tmp_path / "run")[0] == 0
    (tmp_path / "texts.txt").write_text("w51 w52 w53\nw54 w54 w55\nw56 w57 w50\n")
    assert program("report", tmp_path / "run", "--out", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "w41 w42 w43" in page
    assert "w51" not in page
    code, _, errors = program(*words, "--quiet", "--out", tmp_path / "run")
    assert code == 2
    assert "holds a run of other inputs (texts_revision: sha256:" in errors
    (tmp_path / "texts.txt").unlink()
    code, shown, errors = program(*words, "--quiet", "--out", tmp_path / "run")
    assert (code, shown) == (0, "")
    assert errors.startswith("note: the texts cannot be compared with what was measured")


def test_folders_that_are_no_finished_run_are_said_and_the_others_shown(finished, program, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    out, _ = finished
    stub, scores, damaged = (tmp_path / name for name in ("stub", "scores", "damaged"))
    for folder in (stub, scores, damaged):
        folder.mkdir()
    (stub / ".lock").touch()
    (scores / "tasks.json").touch()
    query = ("query", "select count(*) as n from layers where metric = 'curvature'")
    code, shown, errors = program(*query, stub, out, scores, "--format", "csv")
    assert (code, shown) == (0, "n\n4\n")
    assert errors.splitlines() == [
        f"note: left out: {stub} does not hold a measurement: it has no run.json",
        f"note: left out: {scores} does not hold a measurement: it has no run.json (it holds scores of tasks)",
    ]
    code, _, errors = program("report", scores, out, stub, "--out", tmp_path / "report.html")
    assert code == 0
    assert errors.count("note: left out: ") == 2
    assert program(*query, stub, scores)[0] == 2
    (damaged / "run.json").write_text("{")
    code, _, errors = program(*query, out, damaged)
    assert code == 1
    assert "run.json is no JSON" in errors


def test_scores_stay_where_another_measurement_is_in_the_way(finished, program, texts_file, family_folder, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "tasks.json").touch()
    code, _, errors = program("measure", family_folder("llama"), "--texts", texts_file, "--out", tmp_path / "run")
    assert code == 2
    advice = "choose another --out, or delete run.json, layers.parquet, prompts.parquet, texts.parquet there to start"
    assert advice in errors
    assert "(what can stay: tasks.json of `layerscope tasks`)" in errors


@pytest.mark.parametrize("verb", ["metrics", "models", "texts"])
def test_lists(verb, program):
    code, shown, _ = program(verb)
    assert code == 0
    named = {"metrics": "curvature", "models": "smollm2-135m", "texts": "wikitext"}[verb]
    assert named in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("verb", ["measure", "table", "query", "report", "metrics", "models", "texts"])
def test_every_verb_has_help_with_an_example(verb, program):
    code, shown, _ = program(verb, "--help")
    assert code == 0
    assert f"Example: layerscope {verb}" in " ".join(shown.split())


MISTAKES = [
    (("measure", "no-such-model"), r"no-such-model"),
    (("measure", "{model}", "--metrics", "curvatur"), "unknown metric 'curvatur': did you mean 'curvature'"),
    (("measure", "{model}", "--variants", "centred"), "unknown variant 'centred': did you mean 'centered'"),
    (("measure", "{model}", "--texts", "wikki"), "did you mean 'wiki"),
    (("measure", "{model}", "--texts", "{tmp}/missing.txt"), "missing.txt"),
    (("measure", "{model}", "--texts", "{tmp}/empty.txt"), "empty"),
    (("measure", "{model}", "--texts", "{tmp}/latin.txt"), "UTF-8"),
    (("measure", "{model}", "--texts", "{tmp}/table.csv", "--column", "body"), "body"),
    (("measure", "{model}", "--texts", "{texts}", "--context", "5", "--too-long", "refuse"), "longer than the context"),
    (
        ("measure", "{model}", "--texts", "{texts}", "--alphas", "-1"),
        "--alphas: input should be greater than 0, got '-1'",
    ),
    (("measure", "{model}", "--texts", "{texts}", "--layers", "7"), "layer 7 does not exist"),
    (
        ("measure", "{model}", "--texts", "{texts}", "--out", "{tmp}/empty.txt/run"),
        "choose a folder that you may write to",
    ),
    (("measure", "{model}", "--texts", "{texts}", "--out", "{tmp}"), "not empty and not a run"),
    (("table", "{tmp}"), "does not hold a measurement"),
    (("query", "select nothing from nowhere", "{run}"), "the query failed"),
    (("table", "{run}", "--metrics", "entropy"), "metric 'entropy' is not in"),
    (("measure",), "MODEL"),
    (("measures",), "measure"),
]


@pytest.fixture
def places(family_folder, texts_file, finished, tmp_path):
    """What the command lines of MISTAKES stand for."""
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes("Grüße\n".encode("latin-1"))
    (tmp_path / "table.csv").write_text("text,label\nw40 w41,a\n")
    return {"model": family_folder("llama"), "texts": texts_file, "tmp": tmp_path, "run": finished[0]}


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_exits_2_with_one_sentence(words, message, places, program):
    code, _, errors = program(*(word.format(**places) for word in words))
    assert code == 2, errors
    assert message in errors
    assert "Traceback" not in errors
    last = [line for line in errors.splitlines() if not line.startswith(("loading", "measuring"))]
    assert len(last) == 1


def test_debug_shows_the_traceback(tmp_path):
    done = run("table", tmp_path, "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_damaged_table_in_a_finished_run_exits_1_and_is_named(finished, tmp_path):
    for path in finished[0].iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "layers.parquet").write_bytes((tmp_path / "layers.parquet").read_bytes()[:200])
    done = run("table", tmp_path)
    assert done.returncode == 1
    assert "layers.parquet is damaged" in done.stderr


@pytest.mark.slow
def test_ctrl_c_exits_130_says_how_to_go_on_and_the_same_command_goes_on(family_folder, texts_file, tmp_path):
    words = ["measure", str(family_folder("llama")), "--texts", str(texts_file), "--block-size", "1", "--views", "200"]
    command = [*PROGRAM, *words, "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(Path(tmp_path).glob("run/blocks/block_*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command to go on" in errors
    assert "Traceback" not in errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    again = run(*words, "--out", tmp_path / "run")
    assert again.returncode == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"
