"""Files are whole or absent, a folder has one writer, and a full disk is told apart from a forbidden folder."""

import errno
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from layerscope.errors import RunFailedError, UserError
from layerscope.results import files
from layerscope.results.files import cannot_write, locked, make_folder, whole_file


def test_a_file_appears_when_the_block_ends(tmp_path):
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_when_the_block_ends(tmp_path):
    with whole_file(tmp_path / "block") as temporary:
        temporary.mkdir()
        (temporary / "x").write_text("1")
    assert (tmp_path / "block" / "x").read_text() == "1"


@pytest.mark.parametrize("as_folder", [True, False])
def test_nothing_is_left_after_an_error(tmp_path, as_folder):
    if not as_folder:
        (tmp_path / "a").write_text("old")

    def half_write(temporary):
        if as_folder:
            temporary.mkdir()
            temporary /= "x"
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as temporary:
        half_write(temporary)
    assert [p.name for p in tmp_path.iterdir()] == ([] if as_folder else ["a"])
    if not as_folder:
        assert (tmp_path / "a").read_text() == "old"


def test_a_full_disk_is_a_failure_that_can_be_continued(tmp_path):
    with (
        pytest.raises(RunFailedError, match=r"disk is full.*free some space and run the same command"),
        whole_file(tmp_path / "a"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_numpy_on_a_full_disk_is_recognised():
    with pytest.raises(OSError, match="written") as caught, Path("/dev/full").open("wb", buffering=0) as full:
        np.zeros(100_000).tofile(full)
    assert isinstance(cannot_write("x", caught.value), RunFailedError)


def test_an_unwritable_folder_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose a folder that you may write to"):
        make_folder(tmp_path / "file" / "run")


def hold(folder, ready, leave):
    with locked(folder):
        ready.set()
        leave.wait(20)


def test_a_locked_folder_is_refused_and_free_again_after_a_kill(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready, leave))
    holder.start()
    assert ready.wait(20)
    with pytest.raises(UserError, match=f"being written by another run \\(process {holder.pid}\\)"), locked(tmp_path):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path):
        pass


def test_what_fails_before_its_first_file_leaves_no_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "runs" / "a"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / ".lock").write_text("123")
    with locked(tmp_path / "stub"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_and_an_empty_one_of_the_users_stay(tmp_path):
    with locked(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "run.json").write_text("{}")
    (tmp_path / "mine").mkdir()
    with locked(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
    assert sorted(path.name for path in (tmp_path / "runs" / "a").iterdir()) == [".lock", "run.json"]


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path):
    with locked(tmp_path / "a"), pytest.raises(UserError, match="being written by another run"), locked(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "x").write_text("")
    with locked(tmp_path / "a"):
        pass


def test_on_windows_folders_are_not_flushed_and_files_are_opened_for_writing(tmp_path, monkeypatch):
    opened = []
    original = files.os.open

    def watched(path, flags):
        opened.append((Path(path).name, flags))
        return original(path, flags)

    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.setattr(files.os, "open", watched)
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert [flags for _, flags in opened] == [os.O_RDWR]
