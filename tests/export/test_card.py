"""The card says what the folder is, and its numbers are those of the export."""

import pytest

from layerscope.export.export import export_layer


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


def test_a_hub_id_is_the_base_model(made, reader, monkeypatch, tmp_path):
    from layerscope.export import card

    assert card._base("org/name@v1") == "org/name@v1"
    assert card._base(str(reader)) == "reader"
    assert card._base("/nowhere/model.gguf") == "model.gguf"
