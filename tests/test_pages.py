"""The pages that say how to extend layerscope hold: a copy of the repository is changed as they say, and works."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tests.families import FAMILIES, save_family

REPOSITORY = Path(__file__).parent.parent
COPIED = ("src", "tests", "docs", "pyproject.toml")
COMMAND = re.compile(r"^    \.venv/bin/python -m pytest (.*)$", re.MULTILINE)
BLOCK = re.compile(r'^```\w+ title="([^",]+)(?:, ([^"]+))?"\n(.*?)^```$', re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository that may be changed."""
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / "copy" / name)
    return tmp_path / "copy"


@pytest.fixture
def texts(tmp_path):
    draw = random.Random(1)
    lines = [" ".join(f"w{draw.randrange(40, 96)}" for _ in range(draw.randrange(5, 20))) for _ in range(24)]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "texts.txt"


def follow(page, copy):
    """Every titled block of a page: a new file, or lines of an old one, where the title says."""
    done = 0
    for name, where, block in BLOCK.findall((copy / "docs" / page).read_text(encoding="utf-8")):
        path = copy / name
        if not where:
            assert not path.exists(), f"{page}: {name} is there already"
            path.write_text(block, encoding="utf-8")
        else:
            path.write_text(_with(path.read_text(encoding="utf-8"), where, block), encoding="utf-8")
        done += 1
    return done


def _with(text, where, block):
    if where == "at the end":
        return f"{text}\n\n{block}"
    if where.startswith("after "):
        line = where.removeprefix("after ")
        place = re.search(rf"^ *{re.escape(line)}\n", text, re.MULTILINE).end()
        return text[:place] + block + text[place:]
    # A literal of a module ends with a bracket at the beginning of a line.
    name = where.removeprefix("in ")
    literal = re.search(rf"^{name}\b[^\n]*[({{]\n.*?^([)}}])", text, re.MULTILINE | re.DOTALL)
    assert literal is not None, where
    place = literal.start(1)
    return text[:place] + block + text[place:]


def run(copy, *words):
    """A command in the copy: what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def check_tests(copy, *words):
    """The tests of the copy that a page names: they are of the copy's source, and they pass."""
    where = "import layerscope, pathlib; print(pathlib.Path(layerscope.__file__).parents[2])"
    found = subprocess.run(
        [sys.executable, "-c", where], env={**os.environ, "PYTHONPATH": str(copy / "src")}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()) == copy
    shown = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *words)
    return int(re.search(r"(\d+) passed", shown)[1])


def test_a_metric(copy, texts, tmp_path):
    assert follow("adding-a-metric.md", copy) == 6
    page = copy / "docs" / "metrics.md"
    listed = page.read_text(encoding="utf-8").replace(
        "(#anisotropy)", "(#anisotropy), [centre_share](#centre_share)", 1
    )
    page.write_text(listed, encoding="utf-8")
    named = ("test_centre_share", "test_catalogue", "test_requests")
    assert check_tests(copy, *(f"tests/metrics/{name}.py" for name in named), "tests/test_house.py")
    model = save_family(FAMILIES["llama"], tmp_path / "llama")
    words = ("--texts", texts, "--metrics", "centre_share", "--out", tmp_path / "run")
    assert "centre_share" in run(copy, "layerscope", "measure", model, *words)
    layers = pl.read_parquet(tmp_path / "run" / "layers.parquet")
    assert layers["metric"].unique().to_list() == ["centre_share"]
    assert layers["value"].is_between(0, 1).all()
    assert (layers["ci_low"] < layers["ci_high"]).all()
    assert "centre_share" in run(copy, "layerscope", "metrics")


def test_a_model_family(copy):
    page = (copy / "docs" / "adding-a-model-family.md").read_text(encoding="utf-8")
    assert follow("adding-a-model-family.md", copy) == 3
    commands = [words.split() for words in COMMAND.findall(page)]
    assert [words[-1] for words in commands] == ["granite", "squeezebert"]
    (*tests, _, _), refused = commands
    # A test of each kind at least: parts, capture, attention, passes, export.
    assert check_tests(copy, *tests, "-k", "granite or gpt-neo") >= 2 * 10
    assert check_tests(copy, *refused) == 1


def test_a_study(copy, texts, tmp_path):
    page = (copy / "docs" / "adding-a-study.md").read_text(encoding="utf-8")
    assert follow("adding-a-study.md", copy) == 3
    commands = [words.split() for words in COMMAND.findall(page)]
    assert [check_tests(copy, *words) > 0 for words in commands] == [True, True]
    model = save_family(FAMILIES["llama"], tmp_path / "llama")
    words = ("--models", model, "--texts", texts, "--n", 16, "--out", tmp_path / "studies")
    assert "The middle layers straighten" in run(copy, "layerscope", "study", "straightening", *words)
    assert (tmp_path / "studies" / "straightening" / "findings.md").exists()
    assert "straightening" in run(copy, "layerscope", "study", "--list")
