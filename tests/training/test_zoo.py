"""The zoo: names of checkpoints, that they learnt, determinism, and what happens to killed and changed runs."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.kills import Killed, at_every_write, stopped

import layerscope
from layerscope.config import ModelSpec
from layerscope.errors import DamagedError, RunFailedError, UserError
from layerscope.inputs.models import load_model
from layerscope.training import zoo as zoo_module
from layerscope.training.corpus import build_corpus
from layerscope.training.recipes import PAIR, RECIPES, TINY_PAIR
from layerscope.training.record import read_zoo_record
from layerscope.training.train import held_out_loss, learning_rate_factor, write_checkpoint
from layerscope.training.zoo import checkpoints, train_zoo

STEPS = [0, 1, 2, 4, 8, 16, 32, 48]


@pytest.mark.parametrize("name", TINY_PAIR)
def test_checkpoints_have_steps_names_and_folders(zoo, name):
    found = checkpoints(name)
    assert [point.step for point in found] == STEPS
    for point in found:
        assert point.name == f"{name}@step{point.step}"
        model = load_model(ModelSpec(name=point.name))
        assert (model.n_layers, model.dim) == (3, 32)
        config = json.loads((point.folder / "config.json").read_text())
        assert config["dtype"] == "float16"
        assert {tensor.dtype for tensor in load_file(point.folder / "model.safetensors").values()} == {torch.float16}
    by_folder = checkpoints(str(zoo / name))
    assert [point.folder for point in by_folder] == [point.folder for point in found]


def test_every_checkpoint_is_another_model(zoo):
    revisions = {load_model(ModelSpec(name=point.name)).revision for point in checkpoints("zoo-neox-tiny")}
    assert len(revisions) == len(STEPS)  # step 1 too: the warm-up does not start at 0


def test_measure_takes_the_last_checkpoint_and_says_so(zoo):
    run = layerscope.measure("zoo-mamba2-tiny", layerscope.TextSpec(n=4), metrics=["prompt_entropy"])
    assert "zoo-mamba2-tiny is its last checkpoint, step48" in run.record.warnings
    assert run.record.resolved.model_revision == load_model(ModelSpec(name="zoo-mamba2-tiny@step48")).revision


def test_names_that_are_not_there(zoo, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="'zoo-neox-tiny' has no revision 'step3': it has step0, step1, step2, step4"):
        load_model(ModelSpec(name="zoo-neox-tiny@step3"))
    with pytest.raises(
        UserError, match="'zoo-neox' is not trained on this machine yet: run `layerscope zoo train` first"
    ):
        checkpoints("zoo-neox")
    with pytest.raises(UserError, match="unknown zoo model 'zoo-nox': did you mean 'zoo-neox'"):
        checkpoints("zoo-nox")
    with pytest.raises(UserError, match="holds no checkpoints: expected model folders such as step0"):
        checkpoints(str(tmp_path))
    with pytest.raises(UserError, match="unknown zoo model 'zoo-rwkv'"):
        train_zoo(["zoo-rwkv"], cache=tmp_path)


@pytest.mark.parametrize("name", TINY_PAIR)
def test_they_learnt_and_the_saved_weights_have_the_loss_that_is_stated(zoo, name):
    from transformers import AutoModelForCausalLM

    record = read_zoo_record(zoo / name)
    losses = [loss.held_out for loss in record.losses]
    assert losses[0] == pytest.approx(math.log(RECIPES[name].vocab), abs=0.05)  # knows nothing
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.7
    corpus = build_corpus(RECIPES[name])
    windows = corpus.held_out[:: math.ceil(len(corpus.held_out) / 64)]
    assert windows.numel() == record.held_out_tokens
    model = AutoModelForCausalLM.from_pretrained(zoo / name / "step48", dtype=torch.float32)
    assert held_out_loss(model, windows) == pytest.approx(losses[-1], abs=2e-3)  # float16 on disk


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(zoo, tmp_path, monkeypatch):
    short = RECIPES["zoo-neox-tiny"].model_copy(update={"steps": 8})
    monkeypatch.setitem(zoo_module.RECIPES, "zoo-neox-tiny", short)
    torch.manual_seed(123)  # what was drawn before does not matter
    before = torch.get_rng_state()
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_zoo(["zoo-neox-tiny"], cache=tmp_path / folder, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)

    def weights(folder):
        return (tmp_path / folder / "zoo" / "zoo-neox-tiny" / "step8" / "model.safetensors").read_bytes()

    assert weights("a") == weights("b")
    assert weights("a") != weights("c")


def test_a_finished_model_is_left_alone_and_other_settings_are_refused(zoo):
    before = (zoo / "zoo-neox-tiny" / "zoo.json").stat().st_mtime_ns
    record, _ = train_zoo(TINY_PAIR)
    assert record.name == "zoo-neox-tiny"
    assert (zoo / "zoo-neox-tiny" / "zoo.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"trained with other settings \(seed: 0 -> 7\): choose another"):
        train_zoo(TINY_PAIR, seed=7)


def test_a_finished_model_of_other_texts_is_refused(zoo, monkeypatch):
    monkeypatch.setattr(zoo_module, "wiki_revision", lambda: "9.9 sha256:other")
    with pytest.raises(
        UserError, match=r"was trained on other texts \(.*, now 9\.9 sha256:other\): choose another --cache"
    ):
        train_zoo(TINY_PAIR)

    def gone():
        raise UserError("not installed")

    monkeypatch.setattr(zoo_module, "wiki_revision", gone)
    assert len(train_zoo(TINY_PAIR)) == 2


@pytest.mark.slow
def test_a_killed_run_leaves_no_model_and_is_made_again(tmp_path, monkeypatch):
    short = RECIPES["zoo-neox-tiny"].model_copy(update={"steps": 4})
    monkeypatch.setitem(zoo_module.RECIPES, "zoo-neox-tiny", short)
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path))

    def stop(stage, done, total):
        if stage.startswith("training") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_zoo(["zoo-neox-tiny"], report=stop)
    with pytest.raises(UserError, match="not trained on this machine yet"):
        checkpoints("zoo-neox-tiny")
    train_zoo(["zoo-neox-tiny"])
    assert [point.step for point in checkpoints("zoo-neox-tiny")] == [0, 1, 2, 4]
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["zoo-neox-tiny"]


def test_a_folder_that_is_not_of_the_zoo_or_lost_a_checkpoint_is_refused(tmp_path, zoo):
    (tmp_path / "zoo" / "zoo-neox-tiny").mkdir(parents=True)
    with pytest.raises(UserError, match="was not made by `layerscope zoo train`"):
        train_zoo(["zoo-neox-tiny"], cache=tmp_path)
    record = (zoo / "zoo-neox-tiny" / "zoo.json").read_text()
    (tmp_path / "zoo" / "zoo-neox-tiny" / "zoo.json").write_text(record)
    with pytest.raises(UserError, match="has lost its checkpoint step0"):
        train_zoo(["zoo-neox-tiny"], cache=tmp_path)
    (tmp_path / "zoo" / "zoo-neox-tiny" / "zoo.json").write_text(record[:50])
    with pytest.raises(
        DamagedError, match=r"zoo\.json is no JSON .*: delete the folder .* `layerscope zoo train` command"
    ):
        train_zoo(["zoo-neox-tiny"], cache=tmp_path)
    (tmp_path / "zoo" / "zoo-neox-tiny" / "zoo.json").write_text(record.replace('"window": 128', '"window": 129'))
    with pytest.raises(DamagedError, match=r"zoo\.json is damaged .its content is not what was written"):
        train_zoo(["zoo-neox-tiny"], cache=tmp_path)


def test_a_damaged_file_of_a_finished_model_is_named(zoo, tmp_path):
    shutil.copytree(zoo / "zoo-neox-tiny", tmp_path / "zoo" / "zoo-neox-tiny")
    assert len(train_zoo(["zoo-neox-tiny"], cache=tmp_path)) == 1
    file = tmp_path / "zoo" / "zoo-neox-tiny" / "step4" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        DamagedError,
        match=r"step4/model\.safetensors is damaged .*: delete the folder .* `layerscope zoo train` command",
    ):
        train_zoo(["zoo-neox-tiny"], cache=tmp_path)
    file.unlink()
    with pytest.raises(DamagedError, match=r"step4/model\.safetensors is gone"):
        train_zoo(["zoo-neox-tiny"], cache=tmp_path)


def test_the_record_holds_the_hash_of_every_file_of_a_checkpoint(zoo):
    record = read_zoo_record(zoo / "zoo-neox-tiny")
    assert (record.schema_version, record.status) == (2, "done")
    for step in STEPS:
        for file in (zoo / "zoo-neox-tiny" / f"step{step}").iterdir():
            assert record.files[f"step{step}/{file.name}"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_record_of_an_older_version_loads(zoo, tmp_path):
    shutil.copytree(zoo / "zoo-neox-tiny", tmp_path / "zoo" / "zoo-neox-tiny")
    file = tmp_path / "zoo" / "zoo-neox-tiny" / "zoo.json"
    content = json.loads(file.read_text())
    for name in ("schema_version", "seal", "files", "status", "reason", "timings", "machine", "finished"):
        del content[name]
    file.write_text(json.dumps(content))
    (record,) = train_zoo(["zoo-neox-tiny"], cache=tmp_path)
    assert (record.schema_version, record.status, record.files) == (1, "done", {})
    assert record.losses == read_zoo_record(zoo / "zoo-neox-tiny").losses


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_training_that_was_stopped_at_a_write_ends_with_the_same_model(tmp_path, monkeypatch, error):
    short = RECIPES["zoo-neox-tiny"].model_copy(update={"steps": 1, "watched": 2})
    monkeypatch.setitem(zoo_module.RECIPES, "zoo-neox-tiny", short)
    corpus = build_corpus(short)
    # Anew each time: what has been used to measure keeps the last truncation, and is saved with it.
    monkeypatch.setattr(zoo_module, "build_corpus", lambda _: copy.deepcopy(corpus))

    def train(cache):
        return train_zoo(["zoo-neox-tiny"], cache=cache)[0]

    with stopped(999) as done:
        whole = train(tmp_path / "whole")
    assert done[-5:] == ["watch.json", "held_out.jsonl", "README.md", "zoo.json", "zoo-neox-tiny"]
    moments = [*range(0, len(done) - 5, 9), *range(len(done) - 5, len(done))]
    for cache in at_every_write(train, tmp_path, error, moments):
        again = train(cache)
        assert again.files == whole.files
        assert [loss.held_out for loss in again.losses] == [loss.held_out for loss in whole.losses]
        assert [path.name for path in (cache / "zoo").iterdir()] == ["zoo-neox-tiny"]


def test_the_card_states_data_loss_and_seed(zoo):
    text = (zoo / "zoo-mamba2-tiny" / "README.md").read_text()
    record = read_zoo_record(zoo / "zoo-mamba2-tiny")
    for fact in (
        "358 leads",
        "82,816 tokens",
        "seed 0",
        "48 steps of 4 x 128",
        f"| 48 | {record.losses[-1].held_out:.3f} |",
    ):
        assert fact in text


def test_training_leads_and_held_out_leads_share_nothing(zoo):
    corpus = build_corpus(RECIPES["zoo-neox-tiny"])
    held_out = [
        json.loads(line)["text"] for line in (zoo / "zoo-neox-tiny" / "held_out.jsonl").read_text().splitlines()
    ]
    assert held_out == [lead.extract for lead in corpus.held_out_leads]
    trained_on = corpus.tokenizer.decode(corpus.train.flatten())
    assert not [text for text in held_out if text[:80] in trained_on]
    assert corpus.train.min() >= 0
    assert corpus.train.max() < RECIPES["zoo-neox-tiny"].vocab


def test_both_models_of_a_pair_see_the_same_tokens_in_the_same_order():
    for pair in (PAIR, TINY_PAIR):
        one, other = (RECIPES[name] for name in pair)
        for field in ("vocab", "leads", "window", "batch", "steps", "seed", "dim", "layers", "learning_rate"):
            assert getattr(one, field) == getattr(other, field), field


def test_the_learning_rate_rises_from_above_zero_and_ends_at_its_least():
    recipe = RECIPES["zoo-neox"]
    factor = learning_rate_factor(recipe)
    rates = [factor(done) for done in range(recipe.steps + 1)]
    assert rates[0] == 1 / recipe.warmup
    assert max(rates) == rates[recipe.warmup] == 1.0
    assert rates[recipe.steps] == pytest.approx(0.1)
    assert rates[recipe.warmup :] == sorted(rates[recipe.warmup :], reverse=True)


def test_weights_that_diverged_are_never_written(zoo, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(zoo / "zoo-neox-tiny" / "step0", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(zoo / "zoo-neox-tiny" / "step0")
    with torch.no_grad():
        next(model.parameters())[0, 0] = 1e6  # finite, but not in float16
    with pytest.raises(RunFailedError, match="NaN or infinity"):
        write_checkpoint(model, tokenizer, tmp_path / "step1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("most", [100, 4000])  # bytes: not even the config, and not the weights
def test_a_full_disk_is_named_whichever_library_meets_it(zoo, tmp_path, most):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    resource = pytest.importorskip("resource")
    model = AutoModelForCausalLM.from_pretrained(zoo / "zoo-neox-tiny" / "step0", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(zoo / "zoo-neox-tiny" / "step0")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(RunFailedError, match=r"the disk is full, .*step1 could not be written: free some space"):
            write_checkpoint(model, tokenizer, tmp_path / "step1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
