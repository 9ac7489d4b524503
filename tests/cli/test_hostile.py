"""Data is never markup: what names, texts and paths of unknown origin do to the screen, to files, to SQL, to the network."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import polars as pl
import pytest
from tests.picking.folders import peaked_metrics, peaked_scores, write_metrics, write_scores
from tests.picking.tables import score_table

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.results.run import load_run
from layerscope.results.tables import PROMPTS, TEXTS, write_table

EVIL = "[/x][red]\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc :smile:\nnote: fine"
SHOWN = r"[/x][red]\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc :smile:"


@pytest.fixture
def program(program, monkeypatch):
    """On a screen wide enough for every value on one line."""
    monkeypatch.setenv("COLUMNS", "400")
    return program


def write_prompts(folder):
    """The tables of prompts, before the record that keeps their hashes."""
    folder.mkdir()
    write_table([pl.DataFrame(schema=PROMPTS)], PROMPTS, folder / "prompts.parquet")
    write_table([pl.DataFrame(schema=TEXTS)], TEXTS, folder / "texts.parquet")


@pytest.fixture
def hostile(tmp_path):
    """A run whose every text is hostile."""
    layers = peaked_metrics().with_columns(unit=pl.lit(EVIL), model=pl.lit(EVIL), texts=pl.lit(EVIL), note=pl.lit(EVIL))
    layers = layers.with_columns(metric=pl.col("metric") + EVIL, value=pl.when(pl.col("layer") > 1).then("value"))
    folder = tmp_path / "run"
    write_prompts(folder)
    texts = pl.DataFrame({name: [f"{i}{EVIL}" for i in range(2)] for name in ("prompt_id", "sha256", "text", "note")})
    texts = texts.with_columns(n_characters=pl.lit(1, pl.Int64)).match_to_schema(TEXTS)
    write_table([texts], TEXTS, folder / "texts.parquet")
    write_metrics(folder, layers, {"name": EVIL}, warnings=(EVIL,))
    scores = score_table([[0.1, 0.2, 0.3], [0.2, 0.3, 0.3]], tasks=[f"a{EVIL}", "b"], model=EVIL)
    write_scores(folder, scores, {"name": EVIL})
    return folder


def safe(shown):
    """Whether a terminal would show these characters and do nothing else."""
    return all(sign.isprintable() for sign in shown.replace("\n", ""))


CALLS = {
    "table": ("table", "run"),
    "query": ("query", "select prompt_id, text from texts", "run"),
    "a query's heading": ("query", f'select 1 as "{EVIL}" from runs', "run"),
    "pick": ("pick", "run", "--resamples", "100"),
    "relate": ("relate", "run", "--tasks", "all", "--resamples", "100"),
    "report": ("report", "run", "--out", f"a{EVIL}.html".replace("/", "|")),
    "a wrong metric": ("table", "run", "--metrics", EVIL),
    "a wrong query": ("query", f'select "{EVIL}" from layers', "run"),
    "a wrong folder": ("table", EVIL),
    "a wrong option": ("pick", "run", "--margin", EVIL),
    "a wrong verb": (EVIL,),
    "a traceback": ("--debug", "table", EVIL),
    "a wrong model": ("measure", EVIL, "--texts", "wiki"),
    "a wrong choice": ("measure", "m", "--readouts", EVIL),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_verb_lets_data_reach_the_terminal(name, hostile, program):
    code, shown, errors = program(*CALLS[name])
    assert safe(shown), shown
    assert safe(errors), errors
    assert "unexpected" not in errors
    assert code == (2 if "wrong" in name or "traceback" in name else 0)
    assert name == "a wrong option" or "[/x][red]" in (shown + errors).replace("[|x]", "[/x]").replace("\n", "")
    assert name == "a traceback" or not re.search(r"^note: fine", shown + errors, re.MULTILINE)


def test_a_folder_with_the_name_of_markup_is_named_as_it_is(hostile, program, tmp_path):
    for name in ("mko[bold]", "o[/b]", ":smile:"):
        code, shown, _ = program("report", "run", "--out", f"{name}/report.html")
        assert code == 0
        assert f"report written to {name}/report.html" in shown
        assert (tmp_path / name / "report.html").is_file()


def test_a_csv_runs_nothing_in_a_spreadsheet_and_numbers_stay_numbers(hostile, program):
    sql = "select '=cmd|1' as \"=a\", '-0.5' as n, -0.5 as v, '@x' as m, text from texts"
    _, shown, _ = program("query", sql, "run", "--format", "csv")
    head, *rows = csv.reader(io.StringIO(shown))
    assert head == ["'=a", "n", "v", "m", "text"]
    assert rows == [["'=cmd|1", "-0.5", "-0.5", "'@x", f"{i}{EVIL}"] for i in range(2)]
    code, _, errors = program("query", "select array_agg(text) as t from texts", "run", "--format", "csv")
    assert (code, "unexpected" in errors) == (2, False)


def test_json_is_plain_and_says_the_same(hostile, program):
    _, shown, _ = program("query", "select text, 'NaN'::double as v from texts", "run", "--format", "json")
    assert shown.isascii()
    assert json.loads(shown) == [{"text": f"{i}{EVIL}", "v": None} for i in range(2)]


FORMS = [
    "select * from {f}({p})",
    "select * from {F}({p})",
    'select * from "{f}"({p})',
    "select * from `{f}`({p})",
    "select * from {f} /* a */ (  {p})",
    "select * from {f}-- a\n({p})",
    "from {f}({p})",
    "with t as (select * from {f}({p})) select * from t",
    "select * from layers where value in (select a from {f}({p}))",
    "select (select max(a) from {f}({p})) from layers",
    "select * from layers cross join {f}({p})",
    "select layer from layers union all select a from {f}({p})",
    "create table z as select * from {f}({p})",
    "explain select * from {f}({p})",
    "delete from layers where layer in (select a from {f}({p}))",
    "select '/*', * from {f}({p}) where '*/' = '*/'",
    "select '--' from {f}({p})",
    "select 'a''b' from {f}({p})",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("function", ["read_csv", "read_parquet", "read_ipc", "read_json", "read_ndjson"])
def test_a_query_opens_no_other_file(form, function, hostile, program, tmp_path):
    # Whoever opens a pipe without a writer waits for ever: no answer in time is an open file.
    path = tmp_path / "secret"
    os.mkfifo(path)
    sql = form.format(f=function, F=function.upper(), p=f"'{path}'")
    code, shown, errors = program("query", sql, "run")
    assert (code, shown) == (2, "")
    assert "a query reads its runs' tables only" in errors


def test_a_file_that_a_plan_would_read_is_not_read(hostile, monkeypatch, tmp_path):
    # What a later Polars may have, under whatever name.
    from layerscope.errors import UserError
    from layerscope.results import run

    (tmp_path / "other.csv").write_text("a\n1\n")
    monkeypatch.setattr(run, "_OPENS", re.compile("never"))
    with pytest.raises(UserError, match="tables only"):
        load_run(hostile).query(f"select * from read_csv('{tmp_path}/other.csv')")


@pytest.mark.parametrize("sql", ["select '" + "(" * 9, "select " + "(" * 3000 + "1" + ")" * 3000, "", ";", "select"])
def test_a_wrong_query_is_one_sentence(sql, hostile, program):
    code, _, errors = program("query", sql, "run")
    assert code == 2
    assert errors.startswith("layerscope: the query failed")


WATCH = """
import json, os, sys
folder, allowed = sys.argv[1], sys.argv[2:4]
import layerscope.cli.app, layerscope.cli.results, layerscope.report.page, layerscope.picking.pick
import layerscope.results.measurement, layerscope.metrics.catalogue, layerscope.figures.table, layerscope.results.run
import jinja2.ext, encodings.idna, encodings.unicode_escape
code = tuple(os.path.realpath(path) for path in (*sys.path, sys.prefix, sys.base_prefix) if path)
def watch(event, given):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(given[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(given[0]))
        inside = [folder, *allowed, "/dev/null", "/proc", "/sys", "/usr/share/zoneinfo"]
        if not any(path == one or path.startswith(one + "/") for one in (*inside, *code)):
            os.write(2, f"OPENED {event} {path}\\n".encode())
            os._exit(77)
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.system"):
        os.write(2, f"REACHED {event} {given}\\n".encode())
        os._exit(78)
sys.addaudithook(watch)
for words in json.loads(sys.argv[4]):
    try:
        layerscope.cli.app.main(words)
    except SystemExit as left:
        if left.code:
            sys.exit(left.code)
"""


@pytest.mark.parametrize("source", ["{tmp}/secret.txt", "hub:org/name"])
def test_what_shows_a_run_opens_its_folder_and_nothing_else(source, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    (tmp_path / "secret.txt").write_text("the secret\n" * 20)
    write_prompts(folder)
    model = ModelSpec(name=str(tmp_path / "secret.txt"))
    spec = RunSpec(model=model, texts=TextSpec(source=source.format(tmp=tmp_path)))
    write_scores(write_metrics(folder, peaked_metrics(), spec=spec), peaked_scores(), {"name": model.name})
    run = str(folder)
    calls = [
        ["table", run],
        ["query", "select * from layers limit 3", run],
        ["pick", run, "--resamples", "100"],
        ["report", run, "--out", str(out / "report.html")],
    ]
    command = [sys.executable, "-c", WATCH, folder, out, folder, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
    assert "the secret" not in done.stdout + (out / "report.html").read_text()


@pytest.mark.parametrize("words", [("report",), ("relate", "--resamples", "100")], ids=lambda words: words[0])
def test_another_programs_file_is_replaced_only_when_asked(words, hostile, program, tmp_path):
    foreign = tmp_path / "thesis.html"
    foreign.write_text("a year of work, and about layerscope")
    foreign.chmod(0o600)
    words = (*words, "run", "--out", foreign)
    code, _, errors = program(*words)
    assert code == 2
    assert "was not written by this command and is not replaced: choose another --out, or give --force" in errors
    assert foreign.read_text() == "a year of work, and about layerscope"
    assert program(*words, "--force")[0] == 0
    # Now it is ours, and replaced as often as asked for.
    first = foreign.read_bytes()
    assert program(*words)[0] == 0
    assert foreign.read_bytes() == first
    assert foreign.stat().st_mode & 0o777 == 0o600
    foreign.write_bytes(b"")
    assert program(*words)[0] == 0


def test_a_report_nobody_named_replaces_no_file_either(hostile, program, tmp_path):
    (tmp_path / "report.html").write_text("<html>quarterly report</html>")
    assert program("report", "run")[0] == 2
    assert (tmp_path / "report.html").read_text() == "<html>quarterly report</html>"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
@pytest.mark.parametrize("verb", ["report", "relate"])
def test_what_is_no_file_is_not_replaced_even_when_asked(verb, kind, hostile, program, tmp_path):
    out, target = tmp_path / "out", tmp_path / "target"
    target.write_text("kept")
    {"link": lambda: out.symlink_to(target), "pipe": lambda: os.mkfifo(out), "folder": out.mkdir}[kind]()
    mode = out.lstat().st_mode
    code, _, errors = program(verb, "run", "--out", out, "--force", *(("--resamples", "100") * (verb == "relate")))
    assert (code, "unexpected" in errors) == (2, False)
    assert out.lstat().st_mode == mode
    assert target.read_text() == "kept"


@pytest.mark.parametrize("verb", ["table", "query", "report", "pick", "relate", "measure", "tasks"])
def test_a_name_that_is_too_long_is_named(verb, program):
    name = "x" * 300
    words = {"query": ["select 1", name], "tasks": [name, "--tasks", "STS15"]}.get(verb, [name])
    code, _, errors = program(verb, *words)
    assert code == 2
    assert name in errors
    assert "unexpected" not in errors


@pytest.mark.parametrize("verb", ["report", "relate"])
def test_an_out_that_is_too_long_is_named(verb, hostile, program):
    name = "x" * 300
    code, _, errors = program(verb, "run", "--out", name, *(("--resamples", "100") * (verb == "relate")))
    assert code == 2
    assert name in errors
    assert "unexpected" not in errors


def test_a_link_that_leads_to_itself_is_named(program, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for words in (("table", "loop"), ("pick", "loop"), ("table", "loop/run")):
        code, _, errors = program(*words)
        assert (code, "unexpected" in errors) == (2, False), errors


@pytest.mark.parametrize("words", [("table",), ("query", "select 1 from layers"), ("report",), ("pick",), ("relate",)])
@pytest.mark.parametrize("name", ["run.json", "layers.parquet"])
def test_who_only_reads_a_damaged_run_is_advised_to_delete_nothing(name, words, hostile, program):
    (hostile / "scores.parquet").unlink()
    (hostile / "tasks.json").unlink()
    (hostile / name).write_bytes(b"{" + (hostile / name).read_bytes()[:50])
    code, _, errors = program(*words, "run")
    assert code == 1
    assert f"run/{name}" in errors
    assert "delete" not in errors
    assert "choose another --out" not in errors
