"""Files are whole or absent, only files are replaced, and a full disk is told apart from a forbidden folder."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from layerscope.errors import RunFailedError, UserError
from layerscope.files import writing as files
from layerscope.files.writing import cannot_write, inside, make_folder, tidy, whole_file


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
        pytest.raises(RunFailedError, match=r"disk is full.*free some space there and run the same command"),
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


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o600)
    with whole_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_only_files_are_replaced(tmp_path, kind):
    (tmp_path / "target").write_text("mine")
    if kind == "link":
        (tmp_path / "a").symlink_to(tmp_path / "target")
    else:
        os.mkfifo(tmp_path / "a")
    with pytest.raises(UserError, match="is not replaced"), whole_file(tmp_path / "a"):
        pass
    assert (tmp_path / "target").read_text() == "mine"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a", "target"]


def test_tidying_does_not_hide_what_went_wrong(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "_discard", refuse)
    with pytest.raises(UserError, match="Permission denied"), whole_file(tmp_path / "a"):
        raise OSError(errno.EACCES, "Permission denied")


def test_a_runs_own_files_lie_in_its_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "blocks").symlink_to(tmp_path / "elsewhere")
    assert inside(tmp_path / "run", "pooled", "x.npy") == tmp_path / "run" / "pooled" / "x.npy"
    with pytest.raises(UserError, match="blocks is a link"):
        inside(tmp_path / "run", "blocks", "block_00000")


def test_what_a_kill_left_is_removed_once_nobody_writes_it(tmp_path):
    for name in (".old.12345678.tmp", ".new.12345678.tmp", "mine.tmp", ".note"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".folder.12345678.tmp").mkdir()
    (tmp_path / ".folder.12345678.tmp" / "x").write_text("x")
    for name in (".old.12345678.tmp", "mine.tmp", ".note", ".folder.12345678.tmp"):
        os.utime(tmp_path / name, (0, 0))
    tidy(tmp_path)
    assert sorted(child.name for child in tmp_path.iterdir()) == [".new.12345678.tmp", ".note", "mine.tmp"]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, RunFailedError), (errno.EFBIG, RunFailedError), (errno.EACCES, UserError)]
)
def test_a_failed_write_that_a_library_in_rust_tells_of_in_its_own_words_is_named(tmp_path, number, kind):
    with pytest.raises(kind, match="weights"), whole_file(tmp_path / "weights"):
        raise ValueError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    with pytest.raises(ValueError, match="something else"), whole_file(tmp_path / "weights"):
        raise ValueError("something else")


def test_a_folder_that_another_process_made_meanwhile_is_said_to_be_that(tmp_path):
    def make(temporary):
        temporary.mkdir()
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_text("theirs")

    with pytest.raises(UserError, match="was written by another process meanwhile"), whole_file(tmp_path / "a") as mine:
        make(mine)
    assert (tmp_path / "a" / "x").read_text() == "theirs"
