"""`layerscope zoo`, and zoo names in other verbs."""

from __future__ import annotations

import pytest

from layerscope.cli import main


@pytest.fixture
def program(capfd, monkeypatch, tmp_path, zoo):
    """The program within this process, with the tiny pair in its cache: exit code, stdout, stderr."""

    def call(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        return left.value.code, *capfd.readouterr()

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return call


def test_list_says_what_is_trained_and_what_trains_the_rest(program):
    code, out, err = program("zoo", "list")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("zoo-")}
    assert list(lines) == ["zoo-neox", "zoo-mamba2", "zoo-neox-tiny", "zoo-mamba2-tiny"]
    assert "layerscope zoo train" in lines["zoo-neox"]
    assert "6.24 to 5.08" in lines["zoo-neox-tiny"]
    assert "0, 1, 2, 4, 8, 16, 32, 48" in lines["zoo-neox-tiny"]
    assert max(map(len, out.splitlines())) <= 100


def test_train_leaves_what_is_there_and_refuses_other_settings(program, zoo):
    before = (zoo / "zoo-neox-tiny" / "zoo.json").stat().st_mtime_ns
    code, out, _ = program("zoo", "train", "--tiny")
    assert code == 0
    assert "zoo-mamba2-tiny" in out
    assert (zoo / "zoo-neox-tiny" / "zoo.json").stat().st_mtime_ns == before
    code, out, err = program("zoo", "train", "--tiny", "--seed", 3, "--quiet")
    assert (code, out) == (2, "")
    assert "trained with other settings (seed: 0 -> 3)" in err
    code, _, err = program("zoo", "train", "--only", "zoo-nexo")
    assert code == 2
    assert "unknown zoo model 'zoo-nexo': did you mean 'zoo-neox'" in err


def test_models_lists_them(program):
    code, out, _ = program("models")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("zoo-")}
    assert code == 0
    assert lines["zoo-neox-tiny"].split()[1:4] == ["yes", "3", "32"]
    assert "layerscope zoo train" in lines["zoo-mamba2"]


def test_checkpoints_are_model_names(program, zoo):
    words = ("--n", 4, "--metrics", "curvature", "--quiet")
    assert program("measure", "zoo-neox-tiny@step4", *words)[0] == 0
    assert program("measure", f"{zoo}/zoo-neox-tiny@step4", *words, "--out", "again")[0] == 0
    code, out, _ = program("query", "select distinct revision from layers", "runs/zoo-neox-tiny@step4", "again")
    assert code == 0
    assert out.count("sha256:") == 1
    code, _, err = program("measure", "zoo-neox-tiny@4", *words)
    assert code == 2
    assert "'zoo-neox-tiny' has no revision '4': it has step0, step1" in err


def test_help_has_an_example(program):
    for words, example in ((("zoo", "train"), "layerscope zoo train"), (("zoo", "list"), "layerscope zoo list")):
        code, out, _ = program(*words, "--help")
        assert code == 0
        assert f"Example: {example}" in out
