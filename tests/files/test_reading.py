"""A file is read where it is regular, bounded and of its shape; everything else is an error with its name and reason."""

import json
import os

import polars as pl
import pytest
from pydantic import BaseModel

from layerscope.errors import DamagedError, RunFailedError, UserError
from layerscope.files.reading import (
    MOST,
    check_sum,
    open_regular,
    read_bytes,
    read_json,
    read_parquet,
    read_sealed,
    sum_of,
    sums_of,
    write_sealed,
)


class Note(BaseModel):
    schema_version: int = 2
    name: str
    share: float = 0.0


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a") == b"abc"
    assert sum_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sums_of(tmp_path, ["a"]) == {"a": sum_of(tmp_path / "a")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (os.mkfifo, "is no regular file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, make, message):
    make(tmp_path / "a")
    with pytest.raises(UserError, match=message):
        open_regular(tmp_path / "a")


def test_a_link_is_followed_only_where_it_may_be(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert read_bytes(tmp_path / "b") == b"abc"
    with pytest.raises(UserError, match="is a link"):
        read_bytes(tmp_path / "b", follow=False)


def test_a_name_that_no_file_can_have_and_a_forbidden_file_keep_their_reason(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="too long"):
        read_bytes(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="null"):
        read_bytes(tmp_path / "a\0b")

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(UserError, match=r"Permission denied\): allow reading it"):
        read_bytes(tmp_path / "a")


def test_a_file_larger_than_it_may_be_is_not_read_whole(tmp_path):
    (tmp_path / "a").touch()
    os.truncate(tmp_path / "a", MOST + 1)
    with pytest.raises(UserError, match="more than 67,108,864 bytes"):
        read_json(tmp_path / "a", dict)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"\xff{}", "is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5_000, "is no JSON"),
        (b'{"name": "\\ud800"}', "surrogates"),
        (b"[]", "not of the expected form"),
        (b"{}", "name: Field required"),
        (b'{"name": 3}', "name: Input should be a valid string"),
        (b'{"name": "a", "share": {}}', "share: Input should be a valid number"),
    ],
)
def test_json_of_another_shape_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DamagedError, match=message) as caught:
        read_json(tmp_path / "a.json", Note, advice="copy it again")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'} ")
    assert str(caught.value).endswith(": copy it again")


def test_what_is_sealed_reads_back_and_every_flipped_bit_of_it_is_found(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(Note(name="é\n", share=0.1), path)
    whole = path.read_bytes()
    read = lambda: read_sealed(path, Note, version=2, since=2, advice="measure again")  # noqa: E731
    assert read() == Note(name="é\n", share=0.1)
    silent = []
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            try:
                silent.append(read())
            except DamagedError as error:
                assert "measure again" in str(error)  # noqa: PT017
    # Where white space became other white space, the content is what it was.
    assert all(found == Note(name="é\n", share=0.1) for found in silent)
    assert len(silent) < len(whole) // 4


def test_a_file_of_a_version_without_seals_is_read_and_one_that_lost_its_seal_is_not(tmp_path):
    path = tmp_path / "a.json"
    read = lambda: read_sealed(path, Note, version=2, since=2, advice="measure again")  # noqa: E731
    path.write_text(json.dumps({"schema_version": 1, "name": "old"}))
    assert read().name == "old"
    for content in ({"schema_version": 2, "name": "new"}, {"schema_version": "1", "name": "new"}, []):
        path.write_text(json.dumps(content))
        with pytest.raises(DamagedError):
            read()


def test_a_newer_version_is_said_to_be_one(tmp_path):
    write_sealed(Note(schema_version=3, name="new"), tmp_path / "a.json")
    with pytest.raises(RunFailedError, match="schema version 3, this layerscope reads up to 2: update layerscope"):
        read_sealed(tmp_path / "a.json", Note, version=2, since=2, advice="")


def test_a_sum_that_differs_or_is_not_there_is_damage(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    sums = sums_of(tmp_path, ["a"])
    check_sum(tmp_path / "a", sums, "a")
    with pytest.raises(DamagedError, match="what was written"):
        check_sum(tmp_path / "a", {}, "a")
    (tmp_path / "a").write_bytes(b"abd")
    with pytest.raises(DamagedError, match="what was written"):
        check_sum(tmp_path / "a", sums, "a")


def test_a_parquet_file_is_read_and_each_of_its_damages_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": [1.0, 2.0], "name": ["a", "b"]}).write_parquet(path)
    assert pl.DataFrame(read_parquet(path)).to_dict(as_series=False) == {"x": [1.0, 2.0], "name": ["a", "b"]}
    whole = path.read_bytes()
    damaged = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            read_parquet(path)
        except DamagedError as error:
            damaged += 1
            assert str(path) in str(error)  # noqa: PT017
        path.write_bytes(whole[:place])
        with pytest.raises(DamagedError):
            read_parquet(path)
    assert damaged > len(whole) // 4
