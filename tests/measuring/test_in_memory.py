"""A run from a model in memory is the run of the same model on disk."""

from __future__ import annotations

import random

import pytest
from polars.testing import assert_frame_equal
from transformers import AutoModelForCausalLM, AutoTokenizer

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import UserError
from layerscope.measuring.measure import measure, measure_model


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("".join(" ".join(f"w{draw.randrange(4, 96)}" for _ in range(20)) + "\n" for _ in range(10)))
    return TextSpec(source=str(path))


def spec(texts, **fields):
    return RunSpec(model=ModelSpec(name="m@step1"), texts=texts, **{"metrics": ("prompt_entropy", "rankme"), **fields})


def test_values_are_those_of_the_saved_model(family_folder, texts, tmp_path):
    folder = family_folder("gpt-neox")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).train()
    run = measure_model(model, tokenizer, spec(texts), tmp_path / "a")
    saved = measure(str(folder), texts, metrics=("prompt_entropy", "rankme"))
    names = ["model", "revision"]
    assert_frame_equal(run.layers.drop(names), saved.layers.drop(names), check_exact=True)
    assert_frame_equal(run.prompts, saved.prompts, check_exact=True)
    assert run.layers["model"].unique().to_list() == ["m@step1"]
    assert model.training


def test_a_finished_run_of_the_same_weights_is_read_and_of_others_refused(family_folder, texts, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(family_folder("llama"))
    model = AutoModelForCausalLM.from_pretrained(family_folder("llama"))
    first = measure_model(model, tokenizer, spec(texts), tmp_path / "a")
    again = measure_model(model, tokenizer, spec(texts), tmp_path / "a")
    assert again.record.finished == first.record.finished
    assert again.record.timings == first.record.timings
    model.model.norm.weight.data[0] += 1
    with pytest.raises(UserError, match=r"holds a run of other inputs \(model_revision: sha256:"):
        measure_model(model, tokenizer, spec(texts), tmp_path / "a")


def test_metrics_of_attention_weights_are_refused(family_folder, texts, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(family_folder("llama"))
    model = AutoModelForCausalLM.from_pretrained(family_folder("llama"))
    with pytest.raises(UserError, match="sink_rate needs attention weights"):
        measure_model(model, tokenizer, spec(texts, metrics=("sink_rate",)), tmp_path / "a")
    assert not (tmp_path / "a").exists()
