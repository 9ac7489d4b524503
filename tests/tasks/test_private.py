"""A folder of the run's own; those of killed runs are removed, those in use and other people's are not."""

from __future__ import annotations

import os
import time

import pytest

from layerscope.files.locks import LOCK, locked
from layerscope.tasks.private import PREFIX, private_folder


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_it_is_there_inside_and_gone_afterwards(tmp_path) -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "data").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_what_killed_runs_left_is_removed(tmp_path) -> None:
    killed, used, young, old, link = (
        tmp_path / f"{PREFIX}{name}" for name in ("killed", "used", "young", "old", "link")
    )
    for folder in (killed, used, young, old):
        folder.mkdir()
        (folder / "0.pickle").write_text("x")
    (killed / LOCK).write_text("1")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / LOCK).write_text("")
    link.symlink_to(tmp_path / "mine")
    with locked(used), private_folder():
        assert not killed.exists()
        assert not old.exists()
    assert (used / "0.pickle").exists()
    assert (young / "0.pickle").exists()
    assert (tmp_path / "mine").exists()
