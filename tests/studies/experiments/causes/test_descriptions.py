"""Descriptions of prompts on disk: read where they are whole, made again where they are damaged, refused where they moved."""

from __future__ import annotations

import json
import shutil

import pytest

from layerscope.config import ModelSpec, TextSpec
from layerscope.errors import UserError
from layerscope.measuring.progress import silent
from layerscope.results.record import read_record
from layerscope.studies.experiments.causes import descriptions
from layerscope.studies.experiments.causes.descriptions import TABLE, Describe, DescribeRecord


@pytest.fixture
def described(tmp_path, tiny_pair, tiny_texts):
    texts = tmp_path / "texts.txt"
    shutil.copy(tiny_texts, texts)
    job = Describe("d", ModelSpec(name=f"{tiny_pair[0]}/step8"), TextSpec(source=str(texts), n=4), reference=tiny_texts)
    return job, tmp_path / "described", job.start(tmp_path / "described", silent)


@pytest.fixture
def made(monkeypatch):
    """How often prompts were described."""
    times = []
    original = descriptions.describe
    monkeypatch.setattr(descriptions, "describe", lambda *given: times.append(1) or original(*given))
    return times


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", [TABLE, "notes.json"])
@pytest.mark.parametrize("place", [0, 97, 1500, -30])
def test_a_flipped_bit_is_described_again(described, made, name, place):
    job, folder, first = described
    flip(folder / name, place)
    again = job.start(folder, silent)
    assert again.table.equals(first.table, null_equal=True)
    assert (again.reasons, again.notes, len(made)) == (first.reasons, first.notes, 1)
    (warning,) = read_record(DescribeRecord, folder).warnings
    assert warning.startswith(f"made again: {folder / name}")
    assert job.start(folder, silent).table.equals(first.table)
    assert len(made) == 1


@pytest.mark.parametrize("gone", [TABLE, "notes.json"])
def test_half_of_a_description_is_described_again(described, made, gone):
    job, folder, first = described
    (folder / gone).unlink()
    assert job.start(folder, silent).table.equals(first.table)
    assert len(made) == 1


def test_what_version_0_1_0_wrote_is_read(described, made):
    job, folder, first = described
    (folder / "notes.json").write_text(json.dumps({"reasons": first.reasons, "notes": first.notes}))
    first.table.write_parquet(folder / TABLE)
    read = job.start(folder, silent)
    assert read.table.equals(first.table)
    assert (read.reasons, read.notes, made) == (first.reasons, first.notes, [])
    assert "separator" not in job.identity["texts"]


def test_other_texts_are_refused(described, tmp_path):
    job, folder, _ = described
    (tmp_path / "texts.txt").write_text("w41 w42\n" * 4)
    with pytest.raises(UserError, match="holds a run of other inputs"):
        job.start(folder, silent)
