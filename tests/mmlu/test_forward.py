"""Letters against a direct computation, entropies against measure, on the same prompts."""

import json
import statistics

import numpy as np
import polars as pl
import pytest
import torch
from tests.mmlu.conftest import save_tiny
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec, TextSpec
from layerscope.inputs.models import load_model
from layerscope.measuring.measure import measure
from layerscope.measuring.plan import make_plan
from layerscope.mmlu.forward import as_prompt, ask_block
from layerscope.mmlu.harness import Asked, Harness
from layerscope.mmlu.head import load_head
from layerscope.mmlu.questions import Question, load_questions
from layerscope.mmlu.spec import MmluSpec


def ask(folder, write, rows, **options):
    spec = MmluSpec(model=ModelSpec(name=str(folder)), questions=write(rows), batch_tokens=700, **options)
    model = load_model(spec.model)
    asked = Harness(load_questions(spec), 1, True, None, 0).ask(model.tokenizer)
    run_spec = spec.run_spec()
    texts = run_spec.texts.model_copy(update={"context": spec.context})
    plan = make_plan(run_spec.model_copy(update={"texts": texts})).for_model(model.n_layers, len(asked))
    shares = []
    block = ask_block(plan, model, load_head(model), asked, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    return asked, block, block.letters


@pytest.mark.parametrize("folder", ["one_token", "two_tokens"])
@pytest.mark.parametrize("context", [None, 150])
def test_letters_equal_a_direct_computation(folder, context, write, rows, request):
    folder = request.getfixturevalue(folder)
    asked, _, letters = ask(folder, write, rows, context=context)
    whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert context is None or sum(len(one.tokens) > context for one in asked) > 5
    for one, found in zip(asked, letters, strict=True):
        for ids, (loglikelihood, greedy) in zip(one.letters, found, strict=True):
            given = [*one.tokens, *ids]
            inputs = given[:-1] if context is None else given[-(context + 1) :][:-1]
            with torch.no_grad():
                scores = whole(input_ids=torch.tensor([inputs])).logits[0, -len(ids) :].double().log_softmax(-1)
            assert loglikelihood == pytest.approx(float(scores[range(len(ids)), ids].sum()), abs=1e-5)
            assert greedy == (scores.argmax(-1).tolist() == list(ids))
    assert {len(ids) for one in asked for ids in one.letters} == {1 if folder.name.startswith("one") else 2}


def test_letters_do_not_depend_on_batch_mates_where_arithmetic_follows_the_length(tmp_path, write, rows):
    folder = save_tiny(tmp_path / "model", merges=True)
    middle = statistics.median_low(len(one.tokens) for one in ask(folder, write, rows)[0])
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0, 1.1],
        "long_factor": [3.0, 9.0],
        "original_max_position_embeddings": middle,
    }
    options = {"num_key_value_heads": 2, "original_max_position_embeddings": middle, "rope_parameters": rope}
    save_tiny(folder, merges=True, model_type="phi3", **options)
    asked, _, letters = ask(folder, write, rows)
    assert {len(one.tokens) > middle for one in asked} == {True, False}
    for one, found in zip(asked, letters, strict=True):
        whole = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.no_grad():
            scores = whole(input_ids=torch.tensor([one.tokens])).logits[0, -1].double().log_softmax(-1)
        expected = [float(scores[ids[0]]) for ids in one.letters]
        assert [loglikelihood for loglikelihood, _ in found] == pytest.approx(expected, abs=1e-5)


def test_entropies_equal_those_of_measure(one_token, write, rows, tmp_path):
    states = {"readouts": "raw,normed", "positions": "all,no-first"}
    asked, block, _ = ask(one_token, write, rows, **states)
    texts = tmp_path / "prompts.jsonl"
    texts.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in asked))
    run = measure(
        str(one_token), TextSpec(source=str(texts), n=None), metrics="prompt_entropy", normalizations="none", **states
    )
    for place, (readout, positions) in enumerate((r, p) for r in ("raw", "normed") for p in ("all", "no-first")):
        for layer in range(3):
            mine = run.prompts.filter(
                (pl.col("readout") == readout) & (pl.col("positions") == positions) & (pl.col("layer") == layer)
            )
            by_line = {
                int(name.removeprefix("line-")): value for name, value in mine.select("prompt_id", "value").rows()
            }
            expected = [by_line[number] for number in range(1, len(asked) + 1)]
            assert np.abs(block.values[place, layer, 0] - expected).max() < 1e-6


def test_the_last_layer_is_read_for_letters_also_where_it_is_not_measured(one_token, write, rows):
    _, some, letters = ask(one_token, write, rows, layers="0")
    _, every, expected = ask(one_token, write, rows)
    assert some.values.shape[1] == 1
    assert np.array_equal(some.values[:, 0], every.values[:, 0])
    assert np.array_equal(letters, expected)


def test_a_prompt_too_long_loses_its_beginning():
    asked = Asked("s", Question("q", "s", "?", ("a", "b", "c", "d"), 0), "?", tuple(range(10)), ((1,),) * 4)
    assert as_prompt(asked, 10).tokens == as_prompt(asked, None).tokens == tuple(range(10))
    cut = as_prompt(asked, 4)
    assert (cut.id, cut.tokens) == ("s/q", (6, 7, 8, 9))
    assert cut.note == "cut from 10 to 4 tokens, at the beginning"
