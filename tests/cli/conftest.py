"""The program as tests call it."""

import pytest

from layerscope.cli import main


@pytest.fixture
def program(capfd, monkeypatch, tmp_path):
    """The program within this process, for what does not need a process of its own: exit code, stdout, stderr."""

    def call(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        return left.value.code, *capfd.readouterr()

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return call
