"""What may be continued in a folder, and what is refused with what differs."""

import pytest

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import UserError
from layerscope.measuring.resume import differences, earlier_record, refuse_changed_inputs
from layerscope.results.record import Resolved, RunRecord, write_record


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
    assert earlier_record(tmp_path, spec()) is None


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"not a run \(it holds thesis\.tex\): choose another --out"):
        earlier_record(tmp_path, spec())


def test_the_same_spec_goes_on_and_another_is_refused_with_what_differs(tmp_path):
    record = RunRecord(status="running", spec=spec(seed=1), resolved=resolved())
    write_record(record, tmp_path)
    assert earlier_record(tmp_path, spec(seed=1)) == record
    assert earlier_record(tmp_path, spec(seed=1, data_dir="/elsewhere")) == record
    with pytest.raises(UserError, match=r"other settings \(alphas: \[1.0\] -> \[2.0\]; seed: 1 -> 0\)"):
        earlier_record(tmp_path, spec(alphas=2))


def test_other_weights_are_refused(tmp_path):
    record = RunRecord(status="running", spec=spec(), resolved=resolved())
    refuse_changed_inputs(tmp_path, record, resolved())
    with pytest.raises(UserError, match=r"model_revision: sha256:1 -> sha256:2"):
        refuse_changed_inputs(tmp_path, record, resolved(model_revision="sha256:2"))


def test_nested_fields_have_dotted_names():
    other = RunSpec(model=ModelSpec(name="n"), texts=TextSpec(source="wiki"))
    assert differences(spec(), other, ()) == ["model.name: m -> n"]
