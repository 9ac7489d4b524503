"""The verb `mmlu`, as it is typed."""

import json

import pytest
from tests.mmlu.conftest import make_rows, save_tiny
from typer.testing import CliRunner

from layerscope.cli.app import app
from layerscope.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("model"), merges=True))


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in make_rows(6)))
    return str(path)


@pytest.fixture
def run():
    def invoke(*words):
        result = CliRunner().invoke(app, ["mmlu", *map(str, words)], env={"COLUMNS": "100"})
        if isinstance(result.exception, UserError):
            raise result.exception
        return result

    return invoke


def test_tables_and_what_they_mean(run, model, questions, tmp_path):
    words = (
        model,
        "--questions",
        questions,
        "--positions",
        "all,no-first",
        "--permutations",
        99,
        "--out",
        tmp_path / "r",
    )
    result = run(*words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split()[:3] == ["subject", "questions", "accuracy"]
    assert sum(line.startswith("Accuracy and prompt entropy, paper, alpha 1, readout raw") for line in lines) == 2
    assert "chance is 25%" in result.stdout
    assert "no correlation above" in " ".join(lines)
    assert "30 questions, 5 subjects, 0-shot" in result.stdout
    assert "measuring" in result.stderr
    again = run(*words)
    assert again.stdout == result.stdout
    assert "measuring" not in again.stderr


def test_quiet_says_nothing(run, model, questions, tmp_path):
    result = run(
        model, "--questions", questions, "--limit", 3, "--permutations", 99, "--out", tmp_path / "r", "--quiet"
    )
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "r" / "mmlu" / "relations.parquet").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--limit", "1"), "--limit: input should be greater than or equal to 2, got 1"),
        (("--readouts", "row"), "--readouts: input should be 'raw'"),
        (("--subjects", "virology"), "at least 5 subjects"),
        (("--shots", "9"), "more than 9 questions a subject.*use fewer shots"),
    ],
)
def test_mistakes(run, model, questions, words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run(model, "--questions", questions, *words, "--out", tmp_path / "run")


def test_help_shows_an_example(run):
    result = run("--help")
    assert result.exit_code == 0
    assert "lm-eval-dev" in result.output
    assert "Example: layerscope mmlu" in " ".join(result.output.split())
