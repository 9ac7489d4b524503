"""`layerscope export` as a user types it."""

import pytest
from tests.export.conftest import save_reader
from tests.export.scored import save_scores

from layerscope.config import ModelSpec
from layerscope.export import speed
from layerscope.inputs.models import load_model


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return save_reader(tmp_path_factory.mktemp("readers") / "reader")


@pytest.fixture
def program(program, monkeypatch):
    """Speeds are measured on few texts."""
    monkeypatch.setattr(speed, "_ROUNDS", 1)
    monkeypatch.setattr(speed, "_TEXTS", 4)
    return program


def test_an_export_says_how_equal_small_and_fast_it_is(program, reader, tmp_path):
    code, out, err = program("export", reader, "--layer", 2, "--pooling", "last", "--normalize", "--out", "encoder")
    assert code == 0
    first, second, third, *_ = out.splitlines()
    assert first == "layer 2 of 3, readout normed, positions all, pooling last: 2 blocks kept"
    assert second.startswith("equal to the layer's own vectors to ")
    assert "times as fast" in third
    assert "SentenceTransformer('encoder')" in out
    assert "checking: 100 %" in err
    assert (tmp_path / "encoder" / "2_Normalize").is_dir()


def test_a_run_recommends_the_layer(program, reader, tmp_path):
    save_scores(tmp_path / "run", str(reader), load_model(ModelSpec(name=str(reader))).revision)
    code, out, err = program("export", reader, "--run", "run", "--out", "encoder", "--quiet")
    assert (code, out, err) == (0, "", "")
    assert "this model | 2 |" in (tmp_path / "encoder" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer", "9"], "layer 9 does not exist"),
        ([], "no layer: say which with --layer"),
        (["--layer", "1", "--readout", "hf"], "raw below the last layer and normed at the last"),
        (["--layer", "1", "--readout", "both"], "--readout: input should be 'raw', 'normed' or 'hf'"),
        (["--layer", "1", "--positions", "no-sink"], "no-sink cannot be exported"),
        (["--layer", "1", "--positions", "no-first"], "no special token first"),
        (["--layer", "1", "--prompts", "query: "], "--prompts: value error, expected JSON"),
        (["--layer", "1", "--run", "missing"], "is not a folder"),
    ],
)
def test_mistakes_end_with_a_sentence_and_leave_nothing(words, said, program, reader, tmp_path):
    code, out, err = program("export", reader, *words, "--out", "encoder")
    assert code == 2
    assert out == ""
    assert said in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty(program, reader, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "notes.txt").write_text("mine")
    code, _, err = program("export", reader, "--layer", 1, "--out", "encoder")
    assert code == 2
    assert err == "layerscope: encoder is not empty (it holds notes.txt): choose another --out\n"


def test_out_has_to_be_said_and_help_has_an_example(program, reader):
    code, _, err = program("export", reader, "--layer", 1)
    assert code == 2
    assert "--out" in err
    code, out, _ = program("export", "--help")
    assert code == 0
    assert "Example: layerscope export smollm2-135m" in out
