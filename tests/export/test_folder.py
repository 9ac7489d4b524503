"""A folder appears whole or not at all, and nothing is written over."""

import errno

import pytest

from layerscope.errors import RunFailedError, UserError
from layerscope.export.folder import refuse_folder, whole_folder


def test_the_name_appears_at_the_end(tmp_path):
    out = tmp_path / "new" / "export"
    with whole_folder(out) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("whole")
        assert not out.exists()
    assert (out / "sub" / "file").read_text() == "whole"
    assert [child.name for child in out.parent.iterdir()] == ["export"]


def test_an_empty_folder_is_filled(tmp_path):
    with whole_folder(tmp_path) as folder:
        (folder / "file").write_text("whole")
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("raised", "seen", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), RunFailedError, "the disk is full"),
        (ValueError("I/O error: No space left on device (os error 28)"), RunFailedError, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), UserError, "choose a folder that you may write to"),
        (UserError("not equal"), UserError, "not equal"),
        (ZeroDivisionError("a mistake"), ZeroDivisionError, "a mistake"),
        (KeyboardInterrupt("stopped"), KeyboardInterrupt, "stopped"),
    ],
)
def test_nothing_is_left_behind(raised, seen, said, tmp_path):
    def write():
        with whole_folder(tmp_path / "new" / "export") as folder:
            (folder / "file").write_text("half")
            raise raised

    with pytest.raises(seen, match=said):
        write()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_not_written_over(tmp_path):
    refuse_folder(tmp_path / "new")
    refuse_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty \(it holds notes.txt\): choose another --out"):
        refuse_folder(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        refuse_folder(tmp_path / "notes.txt")
