"""What may be continued in a folder, and what is refused with what differs."""

import os
import re
import shutil

import pytest
from tests.families import FAMILIES, build_model
from tests.inputs.gguf_writing import write_gguf
from tests.results.records import save
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import UserError
from layerscope.measuring import measure as module
from layerscope.measuring.measure import measure_spec
from layerscope.results.measurement import Resolved, RunRecord
from layerscope.results.resume import differences, earlier, other_packages, refuse_other_inputs


def spec(**options):
    return RunSpec(
        model=ModelSpec(name="m"), texts=TextSpec(source="wiki", data_dir=options.pop("data_dir", None)), **options
    )


def resolved(**changes):
    values = {
        "model_revision": "sha256:1", "texts_revision": "v1", "n_layers": 2, "dim": 4, "context": None, "device": "cpu",
        "dtype": "float32", "metrics": ("curvature",), "n_prompts": 3, "n_blocks": 1, "prompts_sha256": "0",
    }  # fmt: skip
    return Resolved(**(values | changes))


def test_an_empty_folder_is_new(tmp_path):
    (tmp_path / ".lock").write_text("")
    assert earlier(RunRecord, tmp_path, spec=spec()) is None


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"not a run of this kind \(it holds thesis\.tex\): choose another --out"):
        earlier(RunRecord, tmp_path, spec=spec())


def test_the_same_spec_goes_on_and_another_is_refused_with_what_differs(tmp_path):
    record = RunRecord(status="running", spec=spec(seed=1), resolved=resolved())
    record = save(record, tmp_path)
    assert earlier(RunRecord, tmp_path, spec=spec(seed=1)) == record
    assert earlier(RunRecord, tmp_path, spec=spec(seed=1, data_dir="/elsewhere")) == record
    with pytest.raises(UserError, match=r"other settings \(alphas: \[1.0\] -> \[2.0\]; seed: 1 -> 0\)"):
        earlier(RunRecord, tmp_path, spec=spec(alphas=2))


def test_other_weights_are_refused(tmp_path):
    record = RunRecord(status="running", spec=spec(), resolved=resolved())
    refuse_other_inputs(tmp_path, "measure", record.resolved, resolved())
    with pytest.raises(UserError, match=r"model_revision: sha256:1 -> sha256:2"):
        refuse_other_inputs(tmp_path, "measure", record.resolved, resolved(model_revision="sha256:2"))


def test_nested_fields_have_dotted_names():
    other = RunSpec(model=ModelSpec(name="n"), texts=TextSpec(source="wiki"))
    assert differences(spec(), other, ()) == ["model.name: m -> n"]


@pytest.fixture
def own_run(family_folder, texts_file, tmp_path):
    """own_run(): a spec on a model folder, texts and a run's folder of the test's own."""
    shutil.copytree(family_folder("llama"), tmp_path / "model")
    shutil.copy(texts_file, tmp_path / "texts.txt")
    return RunSpec(
        model=ModelSpec(name=str(tmp_path / "model")),
        texts=TextSpec(source=str(tmp_path / "texts.txt"), n=6),
        metrics="curvature",
        resamples=100,
    ), tmp_path / "run"


def replace_keeping_the_clock(path, content):
    """Another content under the same name and time of change, as `cp -p`, rsync and tar leave it."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("model/config.json", b'"use_cache"', b'"use_cashe"', "model_revision: sha256:"),
        ("model/model.safetensors", b"\x00\x00", b"\x00\x01", "model_revision: sha256:"),
        ("model/tokenizer.json", b"w40", b"w4O", "tokenizer_revision: sha256:"),
        ("texts.txt", b"w", b"v", "texts_revision: sha256:"),
    ],
)
def test_a_finished_run_is_refused_where_what_it_was_made_from_changed(own_run, tmp_path, name, old, new, message):
    measure_spec(*own_run)
    content = (tmp_path / name).read_bytes()
    place = content.rindex(old)
    replace_keeping_the_clock(tmp_path / name, content[:place] + new + content[place + len(old) :])
    with pytest.raises(UserError, match=rf"run holds a run of other inputs \({message}\w+ -> sha256:\w+\): choose"):
        measure_spec(*own_run)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model", r"the model cannot be compared with what was measured.*: no model at .*model: give"),
        ("model/model.safetensors", "the model cannot be compared .* expected safetensors weights in"),
        ("texts.txt", "the texts cannot be compared .*texts.txt does not exist"),
    ],
)
def test_a_source_that_is_gone_is_said_and_the_run_shown(own_run, tmp_path, name, message):
    first = measure_spec(*own_run)
    assert first.notes == ()
    (tmp_path / name).rename(tmp_path / "elsewhere")
    again = measure_spec(*own_run)
    assert again.layers.equals(first.layers, null_equal=True)
    (note,) = again.notes
    assert re.search(message, note)


def test_nothing_is_loaded_or_converted_to_compare(own_run, monkeypatch):
    measure_spec(*own_run)
    for name in ("load_model", "load_texts", "select_prompts"):
        monkeypatch.setattr(module, name, None)
    assert measure_spec(*own_run).notes == ()


def test_a_finished_run_of_a_gguf_file_that_an_older_version_read_says_so(texts_file, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "tiny.gguf", build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM))
    texts = TextSpec(source=str(texts_file), n=6)
    own = RunSpec(model=ModelSpec(name=str(file)), texts=texts, metrics="curvature", resamples=100), tmp_path / "run"
    run = measure_spec(*own)
    assert measure_spec(*own).notes == ()
    revision = run.record.resolved.model_revision.removesuffix("+reading:2")
    old = run.record.resolved.model_copy(update={"model_revision": revision})
    record = run.record.model_copy(update={"resolved": old})
    save(record, run.path)
    (note,) = measure_spec(*own).notes
    assert note.startswith("the model is a GGUF file that was read by an older version, which left settings of some")
    with pytest.raises(
        UserError, match=rf"started with other inputs \(model_revision: {revision} -> {revision}.reading:2"
    ):
        refuse_other_inputs(run.path, "measure", record.resolved, run.record.resolved)


def test_a_run_that_did_not_record_its_tokenizer_is_compared_without(own_run, tmp_path):
    run = measure_spec(*own_run)
    old = run.record.resolved.model_copy(update={"tokenizer_revision": ""})
    save(run.record.model_copy(update={"resolved": old}), run.path)
    replace_keeping_the_clock(tmp_path / "model" / "tokenizer.json", b"{}")
    assert measure_spec(*own_run).notes == ()
    refuse_other_inputs(tmp_path, "measure", old, run.record.resolved)


def test_a_model_that_changes_while_it_is_loaded_is_refused(own_run, tmp_path, monkeypatch):
    original = module.load_model

    def slowly(*arguments, **options):
        loaded = original(*arguments, **options)
        (tmp_path / "model" / "config.json").write_text((tmp_path / "model" / "config.json").read_text() + " ")
        return loaded

    monkeypatch.setattr(module, "load_model", slowly)
    with pytest.raises(UserError, match=r"changed while it was loaded \(sha256:\w+ -> sha256:\w+\): run the same"):
        measure_spec(*own_run)


def test_other_package_versions_are_said(own_run):
    run = measure_spec(*own_run)
    assert other_packages(run.record.packages, run.record.packages) == ()
    older = run.record.packages | {"layerscope": "0.0.1"}
    save(run.record.model_copy(update={"packages": older}), run.path)
    (note,) = measure_spec(*own_run).notes
    assert note.startswith("measured with other versions: layerscope 0.0.1 (now ")
