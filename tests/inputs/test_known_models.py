"""Checkpoints of the zoo: each file is what training wrote, where zoo.json says what that was."""

from __future__ import annotations

import json
import shutil

import pytest
from pydantic import BaseModel

from layerscope.config import ModelSpec
from layerscope.errors import DamagedError, LayerscopeError
from layerscope.files.reading import sums_of, write_sealed
from layerscope.inputs.known_models import zoo_folder
from layerscope.inputs.models import load_model


class Record(BaseModel):
    """What is asked of a zoo.json, and something more."""

    schema_version: int = 2
    files: dict[str, str]
    name: str = "zoo-neox-tiny"


@pytest.fixture
def zoo(family_folder, tmp_path, monkeypatch):
    """The folder of a zoo model of two checkpoints with a zoo.json of sums."""
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path))
    folder = zoo_folder("zoo-neox-tiny")
    for step in ("step0", "step8"):
        shutil.copytree(family_folder("gpt-neox"), folder / step)
    names = [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]
    write_sealed(Record(files=sums_of(folder, sorted(names))), folder / "zoo.json")
    return folder


def load(step="step8"):
    return load_model(ModelSpec(name=f"zoo-neox-tiny@{step}"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_others_load(zoo, name, damage):
    file = zoo / "step8" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] if damage == "cut" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    if damage == "gone":
        file.unlink()
    with pytest.raises(LayerscopeError, match=rf"step8/{name}|step8.*config\.json|no revision 'step8'"):
        load()
    if damage != "gone":
        with pytest.raises(DamagedError, match=r"delete .*zoo-neox-tiny and run `layerscope zoo train --tiny` again"):
            load()
    assert load("step0").n_layers


def test_sums_that_were_changed_are_refused(zoo):
    record = json.loads((zoo / "zoo.json").read_text())
    (zoo / "zoo.json").write_text(json.dumps(record | {"files": {}}))
    with pytest.raises(DamagedError, match=r"zoo\.json is damaged"):
        load()


def test_folders_of_0_1_0_have_no_sums_and_load(zoo):
    (zoo / "zoo.json").write_text(json.dumps({"name": "zoo-neox-tiny", "recipe": {}}))
    (zoo / "step8" / "README.md").write_text("of today")
    assert load().n_layers
    (zoo / "zoo.json").unlink()
    assert load().n_layers
