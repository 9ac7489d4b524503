"""Every table that the program prints, on screens of several widths and in a pipe, against the data it shows."""

import contextlib
import json
import os
import re
import subprocess
import sys

import polars as pl
import pytest
import typer.rich_utils  # Keeps the FORCE_COLOR of its import, so no test here may be the first to import it.
from tests.mmlu.conftest import make_rows, save_tiny
from tests.picking.folders import peaked_metrics, peaked_scores, write_metrics, write_scores
from tests.results.records import save

from layerscope.cli import lists, main, mmlu, pick, relate, results, study, tasks, zoo
from layerscope.errors import UserError
from layerscope.figures.curves import split_curves
from layerscope.figures.numbers import NumberFormat
from layerscope.results.run import load_run
from layerscope.results.tables import PROMPTS, TEXTS, write_table
from layerscope.training.recipes import RECIPES
from layerscope.training.record import StepLoss, ZooRecord

VERBS = (lists, mmlu, pick, relate, results, study, tasks, zoo)
WIDTHS = [60, 80, 100, 120]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the verbs of CALLS read."""
    home = tmp_path_factory.mktemp("tables")
    (home / "both").mkdir()
    write_table([pl.DataFrame(schema=PROMPTS)], PROMPTS, home / "both" / "prompts.parquet")
    write_table([pl.DataFrame(schema=TEXTS)], TEXTS, home / "both" / "texts.parquet")
    write_scores(write_metrics(home / "both", peaked_metrics()), peaked_scores())
    write_scores(home / "other", peaked_scores(4, readout="raw"))
    for task in range(9):
        for layer in range(3):
            path = home / "released" / f"layer_{layer}" / f"Task{task}Classification.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            entry = {"main_score": 0.1234 + task / 10 + layer / 100, "hf_subset": "default", "languages": ["eng-Latn"]}
            path.write_text(
                json.dumps({"dataset_revision": "a", "task_name": path.stem, "mteb_version": "1.34.0"}
                           | {"scores": {"test": [entry]}, "evaluation_time": 1.0, "kg_co2_emissions": None})
            )  # fmt: skip
    save_tiny(home / "tiny", merges=True)
    (home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in make_rows(6)))
    for name, recipe in RECIPES.items():
        (home / "cache" / "zoo" / name).mkdir(parents=True)
        losses = tuple(StepLoss(step=step, held_out=8.03 - step / 900, seconds=1.0) for step in recipe.checkpoints)
        record = ZooRecord(
            name=name, recipe=recipe, parameters=5_123_456, train_leads=9, train_tokens=9, held_out_leads=9,
            held_out_tokens=9, texts_revision="1", losses=losses, seconds=312.0, precision="float32", packages={},
            started="2026-01-01",
        )  # fmt: skip
        save(record, home / "cache" / "zoo" / name)
    return home


MMLU = ("mmlu", "tiny", "--questions", "questions.jsonl", "--permutations", "99", "--out", "asked")
CALLS = {
    "metrics": ("metrics",),
    "models": ("models",),
    "texts": ("texts",),
    "studies": ("study", "--list"),
    "all studies": ("study", "all"),
    "zoo": ("zoo", "list"),
    "tasks": ("tasks", "--import", "released", "--out", "{new}"),
    "mmlu": MMLU,
    "pick": ("pick", "both", "other", "--resamples", "200"),
    "pick by metrics": ("pick", "both", "--by", "metrics", "--resamples", "200"),
    "relate": ("relate", "both", "--tasks", "all", "--resamples", "100"),
    "query of everything": ("query", "select * from layers limit 9", "both"),
    "query of a few": ("query", "select run, layer, metric, value from layers", "both"),
}


@pytest.fixture
def printed(folder, tmp_path, monkeypatch, capfd):
    """Run the program on a screen of some width (None: in a pipe): its lines, and the tables it was to show."""

    def call(words, width):
        shown = []
        for module in VERBS:
            real = module.frame_table

            def note(frame, *given, real=real, **options):
                shown.append(frame)
                return real(frame, *given, **options)

            monkeypatch.setattr(module, "frame_table", note)
        _screen(monkeypatch, width)
        capfd.readouterr()
        with pytest.raises(SystemExit):
            main([word.format(new=tmp_path / "new") for word in words])
        return capfd.readouterr().out.splitlines(), shown

    def refuse(one, *_, **__):
        raise UserError(f"{one.name} needs models that are not on this machine: give a folder with --data-dir")

    monkeypatch.setattr(study, "_run", refuse)
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return call


def _screen(monkeypatch, width):
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    # A screen without colors, as far as rich can see.
    for name, value in {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": str(width), "LINES": "40"}.items():
        if width is not None:
            monkeypatch.setenv(name, value)


def numbers(cell):
    """What may never be broken: numbers with what they stick to, and brackets of numbers. Long names may be."""
    found = re.findall(r"[\[(][-+<.,%\d e]*[\])]|[^\s\[(]*\d[^\s\])]*", cell)
    return [one for one in found if len(one) <= 16 or one[0] in "[("]


def whole(value, line):
    """Whether the line has the value with nothing that would make it another number."""
    return re.search(rf"(?<![\w.+-]){re.escape(value)}(?![\w%])", line) is not None


def find(values, lines):
    """Whether every value is in a line, in this order from line to line."""
    place = 0
    for value in values:
        while place < len(lines) and not whole(value, lines[place]):
            place += 1
        if place == len(lines):
            return value
    return None


@pytest.mark.parametrize("width", [*WIDTHS, None])
@pytest.mark.parametrize("name", CALLS)
def test_every_number_of_every_column_is_whole(name, width, printed):
    lines, frames = printed(CALLS[name], width)
    assert frames
    assert width is None or max(map(len, lines)) <= width
    text = "\n".join(lines)
    for frame in frames:
        for column in frame.columns:
            assert all(word in text for word in column.split()), column
            left_out = re.search(rf"Left out at \d+ columns: [^.]*\b{re.escape(column)}\b", " ".join(text.split()))
            cells = cells_of(frame[column])
            missing = find([number for cell in cells for number in numbers(cell)], lines)
            assert missing is None or left_out, (column, missing)


def cells_of(series):
    style = NumberFormat.of_values(series.drop_nulls().to_numpy()) if series.dtype.is_float() else None
    return [
        "" if value is None else " ".join(str(value).split()) if style is None else style.value(value)
        for value in series.to_list()
    ]


@pytest.mark.parametrize("name", CALLS)
def test_in_a_pipe_a_row_is_a_line_and_a_sentence_too(name, printed):
    lines, frames = printed(CALLS[name], None)
    for frame in frames:
        for cells in zip(*map(cells_of, frame), strict=True):
            assert any(all(cell in line for cell in cells) for line in lines), cells


def test_a_pipe_is_as_wide_as_columns_says(printed, monkeypatch):
    _, _ = printed(("texts",), None)
    monkeypatch.setattr("tests.cli.test_tables._screen", lambda *_: monkeypatch.setenv("COLUMNS", "60"))
    lines, _ = printed(CALLS["metrics"], 60)
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("width", [60, 120])
def test_a_real_terminal_is_as_wide_as_it_is(width):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (40, width))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    done = subprocess.Popen([sys.executable, "-m", "layerscope", "metrics"], stdin=its, stdout=its, env=environment)
    os.close(its)
    shown = b""
    # The end of a terminal is an error on Linux.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 1024):
            shown += part
    os.close(ours)
    assert done.wait(timeout=60) == 0
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown.decode().splitlines()]
    assert 0.8 * width < max(map(len, lines)) <= width
    assert sum("[0, pi]" in line for line in lines) == 1


def test_a_query_that_does_not_fit_prints_its_rows_on_their_side(printed):
    lines, (frame,) = printed(("query", "select * from layers limit 2", "both"), 80)
    first = {name: value.strip() for name, _, value in (line.partition(" ") for line in lines[: len(frame.columns)])}
    assert first["metric"] == "dime"
    assert float(first["value"]) == pytest.approx(frame["value"][0])
    assert list(first) == frame.columns
    assert lines[len(frame.columns)] == ""
    assert lines[-1] == f"Rows on their side: 80 columns are too few for {len(frame.columns)} beside each other."


@pytest.mark.parametrize("width", [*WIDTHS, None])
def test_the_layers_of_a_run(width, printed):
    lines, _ = printed(("table", "both"), width)
    assert width is None or max(map(len, lines)) <= width
    layers = load_run("both").layers
    for curve in split_curves(layers):
        style = curve.format
        halves = curve.half.tolist()
        values = [f"{style.value(v)} {style.half(h)}".rstrip() for v, h in zip(curve.value, halves, strict=True)]
        assert find(values, lines) is None
        for place in (int(curve.value.argmin()), int(curve.value.argmax())):
            assert any(whole(f"{style.value(curve.value[place])} at {curve.layer[place]}", line) for line in lines)


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_help_cuts_no_option_and_no_word_and_shows_an_example(width, monkeypatch, capfd):
    from layerscope.cli.app import app

    _screen(monkeypatch, width)
    group = typer.main.get_command(app)
    verbs = {(): group} | {(name,): verb for name, verb in group.commands.items()}
    verbs |= {("zoo", name): verb for name, verb in group.commands["zoo"].commands.items()}
    for words, verb in verbs.items():
        capfd.readouterr()
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        shown = capfd.readouterr().out
        assert "…" not in shown, words
        options = [option for one in verb.params for option in one.opts if option.startswith("--")]
        assert [option for option in options if not re.search(rf"(?<!\S){option}(?![\w-])", shown)] == [], words
        assert f"layerscope {' '.join(words)}".strip() in " ".join(shown.split("Example:")[1].split()), words
