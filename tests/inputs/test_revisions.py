"""Names of checkpoints: zoo names, folders of checkpoints, and the revisions that are not there."""

from __future__ import annotations

import pytest

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.inputs.checkpoints import find_checkpoint
from layerscope.inputs.revisions import find_revision, revisions, split_revision, step_of


@pytest.fixture
def run_folder(family_folder, tmp_path):
    """A folder as a Trainer leaves it: checkpoints, logs, and an empty checkpoint."""
    folder = tmp_path / "out"
    for step in (10, 2, 100):
        (folder / f"checkpoint-{step}").parent.mkdir(exist_ok=True)
        (folder / f"checkpoint-{step}").symlink_to(family_folder("gpt-neox"))
    (folder / "checkpoint-200").mkdir()
    (folder / "logs").mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a", ("a", None)), ("a@b", ("a", "b")), ("a@b@c", ("a@b", "c")), ("a@", ("a", ""))],
)
def test_a_name_is_split_at_its_last_at(name, parts):
    assert split_revision(name) == parts


def test_revisions_come_in_the_order_of_their_steps(run_folder):
    assert list(revisions(run_folder)) == ["checkpoint-2", "checkpoint-10", "checkpoint-100"]
    assert [step_of(name) for name in ("step0", "checkpoint-100", "main")] == [0, 100, -1]


def test_the_last_revision_is_the_default(run_folder):
    assert find_revision(run_folder, "x", None) == run_folder / "checkpoint-100"
    found = find_checkpoint(ModelSpec(name=str(run_folder)))
    assert found.source == str(run_folder / "checkpoint-100")
    assert found.warnings == (f"{run_folder} is its last checkpoint, checkpoint-100",)


def test_a_folder_with_a_revision(run_folder):
    found = find_checkpoint(ModelSpec(name=f"{run_folder}@checkpoint-10"))
    assert found.source == str(run_folder / "checkpoint-10")
    assert found.warnings == ()


def test_a_revision_that_is_not_there_names_those_that_are(run_folder):
    with pytest.raises(
        UserError, match=r"no revision 'checkpoint-3': it has checkpoint-2, checkpoint-10, checkpoint-100$"
    ):
        find_checkpoint(ModelSpec(name=f"{run_folder}@checkpoint-3"))
    with pytest.raises(UserError, match="no revision 'checkpoint-200'"):
        find_checkpoint(ModelSpec(name=f"{run_folder}@checkpoint-200"))


def test_of_many_revisions_the_nearest_are_named(family_folder, tmp_path):
    for step in range(30):
        (tmp_path / f"step{step}").symlink_to(family_folder("gpt-neox"))
    with pytest.raises(UserError, match="it has 30, from step0 to step29; nearest: step"):
        find_revision(tmp_path, "x", "step99")


def test_a_folder_whose_name_holds_an_at_is_itself(family_folder, tmp_path):
    (tmp_path / "m@step1").symlink_to(family_folder("gpt-neox"))
    assert find_checkpoint(ModelSpec(name=str(tmp_path / "m@step1"))).source == str(tmp_path / "m@step1")


def test_a_copy_of_a_hub_model_without_checkpoints_leaves_revisions_to_the_hub(family_folder, tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "model").symlink_to(family_folder("gpt-neox"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: False)
    with pytest.raises(UserError, match="not reachable and revision 'step3'"):
        find_checkpoint(ModelSpec(name="org/model@step3"))
    with pytest.raises(UserError, match="no revisions: expected model folders such as step0"):
        find_checkpoint(ModelSpec(name=f"{tmp_path}/org/model@step3"))


def test_a_revision_may_hold_slashes(family_folder, tmp_path, monkeypatch):
    commit, asked = "0123456789abcdef0123456789abcdef01234567", []

    def download(name, file, *, revision):
        asked.append((name, revision))
        config = tmp_path / "cache" / commit / "config.json"
        config.parent.mkdir(parents=True)
        config.write_text("{}")
        return str(config)

    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert find_checkpoint(ModelSpec(name="org/name@refs/pr/3")).revision == commit
    assert asked == [("org/name", "refs/pr/3")]
    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    stored = tmp_path / "models--org--name"
    (stored / "snapshots").mkdir(parents=True)
    (stored / "snapshots" / commit).symlink_to(family_folder("gpt-neox"))
    (stored / "refs" / "refs" / "pr").mkdir(parents=True)
    (stored / "refs" / "refs" / "pr" / "3").write_text(commit)
    found = find_checkpoint(ModelSpec(name="org/name@refs/pr/3"))
    assert (found.revision, found.source) == (commit, str(stored / "snapshots" / commit))
    with pytest.raises(UserError, match="no model at a/b/c"):
        find_checkpoint(ModelSpec(name="a/b/c@refs/pr/3"))


def test_the_parts_of_an_old_sentence_transformers_model_are_no_checkpoints(family_folder, tmp_path):
    (tmp_path / "0_Transformer").symlink_to(family_folder("bert"))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 16}')
    (tmp_path / "modules.json").write_text("[]")
    assert revisions(tmp_path) == {}
    found = find_checkpoint(ModelSpec(name=str(tmp_path)))
    assert (found.source, found.warnings) == (str(tmp_path / "0_Transformer"), ())
    (tmp_path / "0_Transformer").unlink()
    with pytest.raises(UserError, match=r"expected a model folder with a config\.json"):
        find_checkpoint(ModelSpec(name=str(tmp_path)))
