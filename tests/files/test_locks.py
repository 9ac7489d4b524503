"""A folder has one writer, and its lock is a file of its own."""

import multiprocessing
import os

import pytest

from layerscope.errors import UserError
from layerscope.files.locks import locked


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


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_a_lock_that_is_no_file_is_refused_and_its_target_is_left_alone(tmp_path, kind):
    folder = tmp_path / "run"
    folder.mkdir()
    if kind == "pipe":
        os.mkfifo(folder / ".lock")
    else:
        (folder / ".lock").symlink_to(tmp_path / "target")
    if kind == "link":
        (tmp_path / "target").write_text("mine")
    with pytest.raises(UserError, match="remove it"), locked(folder):
        pass
    assert [child.read_text() for child in tmp_path.iterdir() if child.is_file()] == (
        ["mine"] if kind == "link" else []
    )
