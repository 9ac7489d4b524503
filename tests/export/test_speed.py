"""The timing takes turns, on equal terms, and puts the export back."""

import numpy as np
import torch

from layerscope.config import ModelSpec
from layerscope.export import speed
from layerscope.export.checking import SENTENCES, encode, open_export
from layerscope.export.export import export_layer
from layerscope.export.speed import measure_speed, speed_texts
from layerscope.inputs.models import load_model


def test_texts_of_one_to_six_sentences(monkeypatch):
    monkeypatch.setattr(speed, "_TEXTS", 12)
    texts = speed_texts(["drawn", *SENTENCES])
    assert len(set(texts)) == 12
    assert "drawn" not in " ".join(texts)
    assert speed_texts(["w1", "w2"])[:2] == ["w1", "w2 w1"]


def test_whole_model_and_export_take_turns(reader, tmp_path, monkeypatch):
    made = export_layer(str(reader), 1, out=tmp_path / "out")
    monkeypatch.setattr(speed, "_ROUNDS", 3)
    opened, whole = open_export(made.path, torch.device("cpu")), load_model(ModelSpec(name=str(reader)))
    own = opened[0].model
    before = encode(opened, ["Rain."])
    ran = []
    monkeypatch.setattr(speed, "encode", lambda opened, texts, size: ran.append((opened[0].model, len(texts))))
    clock = iter(range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock) / 8)
    found = measure_speed(opened, whole, ["Rain.", "Sun and rain."], 256)
    assert [model is whole.model for model, _ in ran] == [True, False] * 4
    assert [n for _, n in ran] == [2] * 8
    assert (found.rounds, found.ratio, found.n_texts) == (3, 1.0, 2)
    assert found.n_tokens == len("Rain.") + len("Sun and rain.")
    assert opened[0].model is own
    monkeypatch.undo()
    assert np.array_equal(encode(opened, ["Rain."]), before)
