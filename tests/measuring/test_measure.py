"""Whole runs on a tiny model: against an independent computation, over batches, interruptions and bad input."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from polars.testing import assert_frame_equal
from tests.families import BY_LENGTH, add_padding_token
from tests.kills import Killed, at_every_write
from tests.metrics import reference
from tests.results.records import save
from threadpoolctl import threadpool_limits
from transformers import AutoModel, AutoTokenizer

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import DamagedError, UserError
from layerscope.inputs.models import load_model
from layerscope.inputs.parts import block_output
from layerscope.inputs.quiet import quiet_libraries
from layerscope.measuring import measure as module
from layerscope.measuring import summary
from layerscope.measuring.measure import measure, measure_spec
from layerscope.results import tables
from layerscope.results.run import load_run
from layerscope.results.tables import KEY
from layerscope.tasks.process import threads

SHOWN = [*KEY, "value", "ci_low", "ci_high", "n_prompts", "n_tokens", "note"]


@pytest.fixture(scope="module")
def full_run(tiny_spec, tmp_path_factory):
    spec = tiny_spec(
        readouts="raw,normed,hf",
        positions="all,no-first,no-sink",
        variants="default,centered",
        alphas="1,inf",
        keep_pooled=True,
    )
    return measure_spec(spec, tmp_path_factory.mktemp("run") / "full")


def hidden_states(spec: RunSpec, text: str) -> list[np.ndarray]:
    """The states as the library itself gives them: raw below the top, normed at the top (llama)."""
    model = load_model(spec.model)
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        return [h[0].double().numpy() for h in model.model(input_ids=ids, output_hidden_states=True).hidden_states]


def rows(run, **where):
    return run.layers.filter(*(pl.col(name) == value for name, value in where.items())).sort("layer")


def test_prompt_entropy_and_curvature_equal_a_plain_computation_on_the_librarys_own_states(full_run, texts_file):
    spec = full_run.record.spec
    where = {"variant": "paper", "readout": "hf", "positions": "all"}
    entropy = rows(full_run, metric="prompt_entropy", alpha=1.0, normalization="none", **where)["value"]
    curvature = rows(full_run, metric="curvature", **where)["value"]
    texts = texts_file.read_text().splitlines()
    kept = full_run.prompts["prompt_id"].unique(maintain_order=True).to_list()
    chosen = [texts[int(name.rsplit("-", 1)[1]) - 1] for name in kept]
    states = [hidden_states(spec, text) for text in chosen]
    expected_entropy = [np.mean([reference.prompt_entropy(s[layer]) for s in states]) for layer in range(4)]
    expected_curvature = [np.mean([reference.curvature(s[layer])[0] for s in states]) for layer in range(4)]
    assert entropy.to_numpy() == pytest.approx(expected_entropy, abs=2e-5)
    assert curvature.to_numpy() == pytest.approx(expected_curvature, abs=2e-5)


def test_every_key_stands_once_and_every_missing_value_has_a_reason(full_run):
    layers = full_run.layers
    assert layers.select(KEY).is_duplicated().sum() == 0
    assert layers.filter(pl.col("value").is_nan() & (pl.col("note") == "")).is_empty()
    assert layers.filter(~pl.col("value").is_nan() & pl.col("value").is_infinite()).is_empty()
    assert set(layers["layer"]) == {0, 1, 2, 3}
    assert layers["depth"].to_list() == pytest.approx((layers["layer"] / 3).to_list())


@pytest.mark.arithmetic
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_number_of_a_run_has_the_same_bits_on_any_number_of_threads(tiny_spec, tmp_path, dtype):
    spec = tiny_spec(n=9, views=2, alphas="1,2")
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"dtype": dtype})})
    found = []
    for number in (1, 2, 4):
        with threads(number), threadpool_limits(limits=number, user_api="blas"):
            run = measure_spec(spec, tmp_path / str(number))
        found.append((run.layers, run.prompts))
    for layers, prompts in found[1:]:
        assert_frame_equal(layers, found[0][0], check_exact=True)
        assert_frame_equal(prompts, found[0][1], check_exact=True)


def test_normalised_entropies_are_shares(full_run):
    shares = full_run.layers.filter(pl.col("normalization") == "max")
    assert shares["value"].is_between(0, 1).all()
    assert (shares["unit"] == "share").all()


def test_intervals_hold_their_value(full_run):
    known = full_run.layers.filter(pl.col("ci_low").is_not_nan())
    assert len(known) > 0.8 * len(full_run.layers)
    assert ((known["ci_low"] <= known["value"] + 1e-9) & (known["value"] <= known["ci_high"] + 1e-9)).all()


def test_hf_is_raw_below_the_top_and_normed_at_the_top(full_run):
    def values(readout):
        return full_run.layers.filter(pl.col("readout") == readout).sort(KEY).select("layer", "value")

    raw, normed, hf = values("raw"), values("normed"), values("hf")
    below = hf["layer"] < 3
    for one, other, where in ((hf, raw, below), (hf, normed, ~below)):
        assert np.array_equal(one.filter(where)["value"], other.filter(where)["value"], equal_nan=True)
    assert not np.allclose(raw.filter(below)["value"], normed.filter(below)["value"], equal_nan=True)


def test_what_is_about_the_first_token_needs_it(full_run):
    norms = full_run.layers.filter(pl.col("metric") == "first_token_norm")
    assert norms.filter(pl.col("positions") == "all")["value"].is_finite().all()
    others = norms.filter(pl.col("positions") != "all")
    assert others["value"].is_nan().all()
    assert others["note"].str.contains("only with positions=all").all()


def test_a_constant_of_the_number_of_prompts_has_no_interval(full_run):
    chance = full_run.layers.filter(pl.col("metric") == "infonce_chance")
    assert chance["value"].unique().to_list() == pytest.approx([np.log(2 * 18 - 1)])
    assert chance["ci_low"].is_nan().all()


def test_no_first_has_one_token_less(full_run):
    tokens = {p: rows(full_run, positions=p)["n_tokens"].unique() for p in ("all", "no-first")}
    assert tokens["all"].item() == pytest.approx(tokens["no-first"].item() + 1)


def test_pooled_vectors_are_the_means_of_the_states(full_run, texts_file):
    name = "layer_003_normed_all.npy"
    pooled = np.load(full_run.path / "pooled" / name)
    ids = (full_run.path / "pooled" / "prompt_ids.txt").read_text().split()
    texts = texts_file.read_text().splitlines()
    expected = hidden_states(full_run.record.spec, texts[int(ids[4].rsplit("-", 1)[1]) - 1])[3].mean(axis=0)
    assert pooled[4] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("options", [{"block_size": 18}, {"batch_tokens": 1}, {"batch_tokens": 5000, "block_size": 2}])
def test_results_do_not_depend_on_blocks_or_batches(tiny_spec, tmp_path, options):
    plain = measure_spec(tiny_spec(), tmp_path / "a").layers
    other = measure_spec(tiny_spec(**options), tmp_path / "b").layers
    difference = (plain["value"] - other["value"]).abs() / plain["value"].abs().clip(lower_bound=1)
    # logdet sums the logarithms of eigenvalues that are zero up to the rounding of the states.
    assert difference.filter(plain["metric"] != "logdet_entropy").max() < 1e-4
    assert difference.max() < 1e-2


def test_layers_can_be_chosen(tiny_spec, tmp_path):
    everything = measure_spec(tiny_spec(), tmp_path / "all").layers
    some = measure_spec(tiny_spec(layers="1,2"), tmp_path / "some").layers
    assert some.select(SHOWN).equals(everything.filter(pl.col("layer").is_in([1, 2])).select(SHOWN), null_equal=True)
    with pytest.raises(UserError, match="layer 9 does not exist: the model has layers 0 to 3"):
        measure_spec(tiny_spec(layers="9"), tmp_path / "beyond")


def test_a_run_keeps_the_texts_it_measured(full_run, texts_file):
    texts = dict(enumerate(texts_file.read_text().splitlines(), 1))
    kept = full_run.texts
    assert kept["prompt_id"].to_list() == full_run.prompts["prompt_id"].unique(maintain_order=True).to_list()
    for row in kept.iter_rows(named=True):
        text = texts[int(row["prompt_id"].rsplit("-", 1)[1])]
        assert (row["text"], row["n_characters"]) == (text, len(text))
        assert row["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    found = full_run.query("select count(*) as n from texts join prompts on texts.prompt_id = prompts.prompt_id")
    assert found["n"].item() == len(full_run.prompts)


def test_of_a_long_text_a_run_keeps_the_beginning_and_what_was_done_to_it(family_folder, tmp_path):
    (tmp_path / "long.txt").write_text("w40 " * 1000 + "\n" + "w50 w51\n")
    run = measure(str(family_folder("llama")), str(tmp_path / "long.txt"), out=tmp_path / "run", metrics="curvature")
    long, short = run.texts.iter_rows(named=True)
    assert (len(long["text"]), long["n_characters"]) == (2000, 4000)
    assert long["note"].startswith("cut from 1000 to ")
    assert short["note"] == ""
    (run.path / "texts.parquet").unlink()
    with pytest.raises(DamagedError, match=r"texts\.parquet is gone: run the same `layerscope measure` command"):
        _ = load_run(run.path).texts
    save(run.record.model_copy(update={"schema_version": 1}), run.path)
    old = load_run(run.path)
    assert old.texts is None
    assert old.query("select count(*) as n from texts")["n"].item() == 0


def test_pooled_vectors_are_found_by_layer_and_state(full_run, tiny_spec, tmp_path):
    one = measure_spec(tiny_spec(metrics="curvature", keep_pooled=True, n=4), tmp_path / "one")
    assert one.pooled(1).shape == (4, one.record.resolved.dim)
    with pytest.raises(UserError, match=r"layer_009\.npy does not exist: layers 0, 1, 2, 3 are kept"):
        one.pooled(9)
    path = full_run.path / "pooled" / "layer_001_normed_no-first.npy"
    assert np.array_equal(full_run.pooled(1, readout="normed", positions="no-first"), np.load(path))
    with pytest.raises(
        UserError, match=r"several pooled vectors: say which of them \(readout='raw', positions='all', re"
    ):
        full_run.pooled(1)
    with pytest.raises(UserError, match="several pooled vectors"):
        full_run.pooled(1, readout="raw")
    with pytest.raises(UserError, match="no such pooled vectors: say which of them"):
        full_run.pooled(1, readout="normal")
    without = measure_spec(tiny_spec(metrics="curvature", n=4), tmp_path / "without")
    with pytest.raises(UserError, match="keeps no pooled vectors: measure with keep_pooled"):
        without.pooled(1)


def test_a_measurement_that_cannot_start_leaves_no_folder(tiny_spec, tmp_path):
    with pytest.raises(UserError, match="layer 9 does not exist"):
        measure_spec(tiny_spec(layers="9"), tmp_path / "runs" / "a")
    assert not (tmp_path / "runs").exists()


def test_more_metrics_leave_the_others_as_they_are(tiny_spec, tmp_path):
    everything = measure_spec(tiny_spec(), tmp_path / "all").layers
    one = measure_spec(tiny_spec(metrics="prompt_entropy"), tmp_path / "one").layers
    assert one.select(SHOWN).equals(everything.filter(pl.col("metric") == "prompt_entropy").select(SHOWN))


def test_two_views_are_the_first_two_of_sixteen(tiny_spec, tmp_path):
    many = measure_spec(tiny_spec(metrics="infonce,lidar"), tmp_path / "many")
    two = measure_spec(tiny_spec(metrics="infonce"), tmp_path / "two")
    known = [rows(run, metric="infonce")["value"].to_numpy() for run in (many, two)]
    assert known[0] == pytest.approx(known[1], abs=1e-4)


def test_sink_rate_is_the_attention_on_the_first_token(tiny_spec, tmp_path):
    run = measure_spec(tiny_spec(metrics="sink_rate"), tmp_path / "run")
    embeddings, *blocks = rows(run, metric="sink_rate").iter_rows(named=True)
    assert "no attention" in embeddings["note"]
    assert all(0 < row["value"] < 1 for row in blocks)


@pytest.mark.parametrize("family", ["gpt-neox", "mamba2", "bert"])
def test_other_families_run_whole(tiny_spec, tmp_path, family):
    run = measure_spec(tiny_spec(family=family, n=6), tmp_path / "run")
    assert run.layers.filter(pl.col("metric") == "prompt_entropy")["value"].is_finite().all()
    assert run.record.resolved.n_layers == 3


def test_views_that_equal_their_prompt_are_counted(tiny_spec, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("w5 w6 w7\nw8 w9 w4\n")
    spec = tiny_spec(metrics="dime,infonce", views=2)
    spec = spec.model_copy(update={"texts": spec.texts.model_copy(update={"source": str(path), "n": None})})
    (warning,) = measure_spec(spec, tmp_path / "run").record.warnings
    assert warning == "4 of 4 views equal their prompt: no word was long enough to change"


def test_a_perturbation_leaves_out_the_views_or_is_refused(tiny_spec, tmp_path):
    run = measure_spec(tiny_spec(perturbation="repetition:1.0", family="gpt-neox"), tmp_path / "run")
    assert "infonce" not in run.record.resolved.metrics
    assert rows(run, metric="prompt_entropy", layer=0, normalization="none")["value"].item() == pytest.approx(
        0, abs=1e-5
    )
    with pytest.raises(UserError, match="lidar needs views of the text"):
        measure_spec(tiny_spec(perturbation="repetition:0.5", metrics="lidar"), tmp_path / "refused")


def equal_runs(one, other):
    same_layers = one.layers.equals(other.layers, null_equal=True)
    return same_layers and one.prompts.equals(other.prompts, null_equal=True)


def test_an_interrupted_run_continues_to_the_same_values(tiny_spec, tmp_path, monkeypatch):
    whole = measure_spec(tiny_spec(), tmp_path / "whole")
    original, calls = module.measure_block, []

    def stop_in_the_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "measure_block", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        measure_spec(tiny_spec(), tmp_path / "broken")
    record = json.loads((tmp_path / "broken" / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("failed", "stopped by Ctrl-C")
    calls.append("more")
    again = measure_spec(tiny_spec(), tmp_path / "broken")
    assert len(calls) == 2 + 1 + 1 + 2  # two blocks were kept, two are left of four
    assert equal_runs(whole, again)
    assert not (tmp_path / "broken" / "blocks").exists()


KILLED = """
import sys
from pathlib import Path
from layerscope.config import RunSpec
from layerscope.measuring.blocks import BlockStore
from layerscope.measuring.measure import measure_spec
spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
original = BlockStore.write
def slowly(store, block, index):
    original(store, block, index)
    print("block", index, flush=True)
    __import__("time").sleep(60 if index == 1 else 0)
BlockStore.write = slowly
measure_spec(spec, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_values(tiny_spec, tmp_path):
    spec = tiny_spec()
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "spec.json"), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout.readline, "block 1\n")
        assert list(lines) == ["block 0\n"]
        process.send_signal(signal.SIGKILL)
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] == "running"
    killed = measure_spec(spec, tmp_path / "killed")
    assert equal_runs(measure_spec(spec, tmp_path / "whole"), killed)


def test_a_finished_run_is_only_read(tiny_spec, tmp_path, monkeypatch):
    first = measure_spec(tiny_spec(metrics="curvature"), tmp_path / "run")
    monkeypatch.setattr(module, "load_model", None)
    assert equal_runs(first, measure_spec(tiny_spec(metrics="curvature"), tmp_path / "run"))


def test_another_spec_in_the_same_folder_is_refused(tiny_spec, tmp_path):
    measure_spec(tiny_spec(metrics="curvature"), tmp_path / "run")
    with pytest.raises(UserError, match=r"other settings \(metrics: \['curvature'\] -> \['lidar'\]\)"):
        measure_spec(tiny_spec(metrics="lidar"), tmp_path / "run")


@pytest.mark.parametrize("damage", ["cut", "flipped", "swapped", "gone"])
def test_a_damaged_block_is_measured_again(tiny_spec, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(module, "write_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        measure_spec(tiny_spec(metrics="curvature"), tmp_path / "run")
    monkeypatch.undo()
    first, second = (tmp_path / "run" / "blocks" / f"block_0000{index}" for index in (0, 1))
    content = (second / "values.npy").read_bytes()
    if damage == "cut":
        (second / "values.npy").write_bytes(b"half")
    elif damage == "flipped":
        (second / "values.npy").write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    elif damage == "gone":
        (second / "notes.json").unlink()
    else:
        first.rename(tmp_path / "aside")
        second.rename(first)
        (tmp_path / "aside").rename(second)
    again = measure_spec(tiny_spec(metrics="curvature"), tmp_path / "run")
    assert equal_runs(measure_spec(tiny_spec(metrics="curvature"), tmp_path / "whole"), again)
    (note,) = [line for line in again.record.warnings if "measured again" in line]
    assert note.startswith(f"{2 if damage == 'swapped' else 1} blocks were not as they were written")


def test_the_python_call_needs_no_folder(family_folder, texts_file):
    run = measure(str(family_folder("llama")), str(texts_file), metrics=["curvature"], alphas=2)
    folder = run.path
    assert set(run.layers["metric"]) == {"curvature", "curvature_skipped_steps"}
    assert run.plot("curvature") is not None
    assert run.query("select count(*) as n from layers")["n"].item() == 8
    del run
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "curvatur"}, "unknown metric 'curvatur': did you mean 'curvature'"),
        ({"variants": "centred"}, "unknown variant 'centred': did you mean 'centered'"),
        ({"alphas": 0}, "alphas.0: Input should be greater than 0"),
        ({"readouts": "row"}, "readouts.0: Input should be 'raw', 'normed' or 'hf'"),
    ],
)
def test_bad_requests_are_refused_before_any_work(options, message):
    with pytest.raises(UserError, match=message):
        measure("no-such-model", "no-such-text", **options)


def test_one_prompt_has_no_interval_and_no_comparison(tiny_spec, tmp_path):
    run = measure_spec(tiny_spec(n=1), tmp_path / "run")
    infonce = rows(run, metric="infonce", layer=1).row(0, named=True)
    assert np.isnan(infonce["value"])
    assert "2 or more" in infonce["note"]
    with pytest.raises(UserError, match="lidar compares prompts and needs at least 2, got 1"):
        measure_spec(tiny_spec(n=1, metrics="lidar"), tmp_path / "named")


def test_a_padding_token_without_an_embedding_changes_nothing(tiny_spec, tmp_path):
    spec = tiny_spec(metrics="prompt_entropy", layers="0,3", n=24)
    folder = shutil.copytree(spec.model.name, tmp_path / "model")
    add_padding_token(folder)
    plain = measure_spec(spec, tmp_path / "plain")
    padded = measure_spec(spec.model_copy(update={"model": ModelSpec(name=str(folder))}), tmp_path / "padded")
    assert plain.layers["value"].equals(padded.layers["value"])
    assert len(plain.layers) > 0


@pytest.mark.parametrize("family", BY_LENGTH)
def test_entropies_do_not_depend_on_batch_mates_where_arithmetic_follows_the_length(family, tiny_spec, tmp_path):
    with quiet_libraries():
        spec = tiny_spec(family=family, metrics="prompt_entropy", normalizations="none", readouts="raw", n=24)
        run = measure_spec(spec, tmp_path / "run")
    texts = Path(spec.texts.source).read_text().splitlines()
    found = run.prompts.filter(pl.col("layer") == 3).select("prompt_id", "value").rows()
    assert len({len(texts[int(name.rsplit("-", 1)[1]) - 1].split()) > 16 for name, _ in found}) == 2
    for name, value in found:
        model = AutoModel.from_pretrained(spec.model.name).eval()
        ids = AutoTokenizer.from_pretrained(spec.model.name)(
            texts[int(name.rsplit("-", 1)[1]) - 1], truncation=True, max_length=run.record.resolved.context
        )["input_ids"]
        states = []
        blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)
        blocks[2].register_forward_hook(lambda _, __, output, states=states: states.append(block_output(output)))
        with torch.no_grad(), quiet_libraries():
            model(input_ids=torch.tensor([ids]))
        expected = reference.prompt_entropy(states[0][0, : len(ids)].double().numpy())
        assert value == pytest.approx(expected, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_run_that_was_stopped_at_any_write_ends_with_equal_tables(tiny_spec, tmp_path, error):
    spec = tiny_spec(n=4, block_size=2, metrics="curvature,rankme", layers="0,3", keep_pooled=True)
    model = load_model(spec.model)
    whole = measure_spec(spec, tmp_path / "whole", model=model)
    moments = 0
    for out in at_every_write(lambda out: measure_spec(spec, out, model=model), tmp_path, error):
        again = measure_spec(spec, out, model=model)
        for table in ("layers", "prompts", "texts"):
            assert_frame_equal(getattr(again, table), getattr(whole, table), check_exact=True)
        for layer in (0, 3):
            assert np.array_equal(again.pooled(layer), whole.pooled(layer))
        assert not (out / "blocks").exists(), out
        moments += 1
    # Two records, two blocks, three tables, two layers' vectors and their names.
    assert moments >= (11 if error is Killed else 10)


def test_a_finished_run_is_checked_without_its_tables_in_memory(tiny_spec, tmp_path, monkeypatch):
    spec = tiny_spec(n=4, metrics="curvature")
    run = measure_spec(spec, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("read a table"))
        measure_spec(spec, run.path)
    (run.path / "prompts.parquet").write_bytes((run.path / "prompts.parquet").read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"prompts\.parquet is damaged"):
        measure_spec(spec, run.path)


def test_many_prompts_are_written_in_pieces_and_reasons_stay_with_their_prompts(tiny_spec, tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text("\n".join(["w40 w41 w42 w43", "w44", "w45 w46 w47", "w48"]) + "\n")
    spec = tiny_spec(metrics="curvature,prompt_entropy", block_size=3)
    spec = spec.model_copy(update={"texts": TextSpec(source=str(tmp_path / "texts.txt"))})
    whole = measure_spec(spec, tmp_path / "whole")
    monkeypatch.setattr(summary, "_PIECE", 3)
    monkeypatch.setattr(tables, "_ROWS", 3)
    pieces = measure_spec(spec, tmp_path / "pieces")
    assert pq.ParquetFile(pieces.path / "prompts.parquet").num_row_groups > 4
    assert_frame_equal(pieces.prompts, whole.prompts, check_exact=True)
    assert_frame_equal(pieces.texts, whole.texts, check_exact=True)
    missing = whole.prompts.filter(pl.col("value").is_nan())
    assert set(missing["prompt_id"]) == {
        name for name, n in whole.prompts.select("prompt_id", "n_tokens").iter_rows() if n < 3
    }
    assert (missing["note"] != "").all()
