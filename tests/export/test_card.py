"""The card says what the folder is, and its numbers are those of the export."""

import shutil
from dataclasses import replace

import polars as pl
import pytest
from markdown_it import MarkdownIt
from tests.export.scored import save_scores
from tests.results.records import save

from layerscope.config import ModelSpec
from layerscope.export.card import model_card, name_of
from layerscope.export.cutting import Cut
from layerscope.export.export import export_layer
from layerscope.inputs.models import load_model
from layerscope.results.record import read_record
from layerscope.tasks.record import TasksRecord

HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:alert) `b` | c"


@pytest.fixture(scope="module")
def made(reader, tmp_path_factory):
    return export_layer(str(reader), 1, out=tmp_path_factory.mktemp("cards") / "encoder", readout="raw", context=50)


def test_front_matter_and_use(made):
    lines = (made.path / "README.md").read_text().splitlines()
    front = lines[1 : lines.index("---", 1)]
    assert lines[0] == "---"
    assert "library_name: sentence-transformers" in front
    # The base model is a folder of this machine: the card gives its name, not its place.
    assert not any(line.startswith("base_model") for line in front)
    assert "# encoder: reader up to layer 1 of 3" in lines
    assert "model = SentenceTransformer('encoder')" in lines


def test_numbers(made):
    card = (made.path / "README.md").read_text()
    assert f"| weights, MB | {made.size / 1e6:.1f} | {made.whole_size / 1e6:.1f} |" in card
    assert f"**{made.speed.ratio:.1f} times as fast**" in card
    assert f"relative error: {made.error:.1e}" in card
    assert f"{made.n_texts} texts of different lengths" in card
    assert "| readout, positions, pooling | raw, all, mean |" in card
    assert "| longest text | 50 tokens, longer ones are cut |" in card
    assert "after block 1 of 3, without the model's final norm" in card
    assert "no run was named as evidence" in card
    assert "all layers that are left are held in memory" in card
    assert "/" not in card.split("## What it is")[1].split("| revision")[0].split("base model")[1].split(",")[0]


def test_a_block_that_is_kept_and_not_read_is_said(family_folder, tmp_path):
    made = export_layer(str(family_folder("falcon")), 1, out=tmp_path / "out", readout="raw")
    assert made.blocks == 2
    assert "Block 2 is kept though nothing of it is read" in (made.path / "README.md").read_text()


def test_a_path_is_called_by_its_last_part(reader):
    assert name_of("org/name@v1") == "org/name@v1"
    assert name_of(str(reader)) == "reader"
    assert name_of("/nowhere/model.gguf") == "model.gguf"
    assert name_of("~no-such-user/model") == "~no-such-user/model"


def test_names_are_text_and_neither_html_nor_links_nor_cells(reader, tmp_path):
    folder = shutil.copytree(reader, tmp_path / f"model {HOSTILE}")
    revision = load_model(ModelSpec(name=str(folder))).revision
    run = save_scores(tmp_path / f"run {HOSTILE}", str(folder), revision)
    scores = pl.read_parquet(run / "scores.parquet", glob=False)
    hostile = pl.when(pl.col("task") == "Task3").then(pl.lit(f"{HOSTILE}\n\n# d")).otherwise("task").alias("task")
    scores.with_columns(hostile).write_parquet(run / "scores.parquet")
    save(read_record(TasksRecord, run), run)
    made = export_layer(
        str(folder), out=tmp_path / f"out {HOSTILE}", run=run, prompts={HOSTILE: ""}, default_prompt=HOSTILE
    )
    page = MarkdownIt("commonmark").enable("table").render((made.path / "README.md").read_text().split("---", 2)[2])
    assert "<img" not in page
    assert "<a " not in page
    assert page.count("<h1>") == 1
    shown = page.replace("&lt;", "<").replace("&gt;", ">")
    assert f"<h1>out {HOSTILE}: model {HOSTILE} up to layer 2 of 3</h1>" in shown
    assert f"From the run run {HOSTILE}: Use layer 2" in shown
    assert f"<td>model {HOSTILE}, revision" in shown
    assert f"{HOSTILE} # d, Task4" in shown


@pytest.mark.parametrize("name", ["org/name: x", "../name", "org/na\nme", "a/b/c", "org/na_me@v1"])
def test_only_a_hub_id_is_called_the_base_model(made, reader, name):
    model = load_model(ModelSpec(name=str(reader)))
    renamed = replace(model, spec=model.spec.model_copy(update={"name": name}))
    card = model_card(made, renamed, Cut(model.model, 1, "last_hidden_state"), None, None)
    front = card.split("---")[1].splitlines()
    assert [line for line in front if "base_model" in line] == ["base_model: org/na_me"] * (name == "org/na_me@v1")
