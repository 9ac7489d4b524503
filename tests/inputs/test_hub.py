"""Hub data sets: names, stand-ins, and what is said where there is no internet."""

import datasets
import huggingface_hub
import pytest

from layerscope.errors import UserError
from layerscope.inputs import hub
from layerscope.inputs.hub import HubName, parse_hub, read_hub, stand_in

ROWS = [{"text": f"text {number}", "label": number} for number in range(5)]


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch, tmp_path):
    monkeypatch.delenv(hub.DATA_DIR, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def unreachable(*args, **kwargs):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)


@pytest.fixture
def data_dir(tmp_path):
    root = tmp_path / "data"

    def write(name, content="a\nb\n"):
        path = root / "org/name" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return str(root)

    return write


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hub:org/name", HubName("org/name")),
        ("hub:org/name:cfg", HubName("org/name", "cfg")),
        ("hub:org/name::test", HubName("org/name", None, "test")),
        ("hub:org/name:cfg:test:body", HubName("org/name", "cfg", "test", "body")),
        ("hub:org/name:::body", HubName("org/name", None, None, "body")),
    ],
)
def test_a_name_is_read_and_written_back(source, expected):
    assert parse_hub(source) == expected
    assert expected.text == source


@pytest.mark.parametrize(
    "source", ["hub:", "hub:name", "hub:/name", "hub:org/", "hub:a/b/c", "hub:../b", "hub:a/..", "hub:a/b:c:d:e:f"]
)
def test_a_name_of_another_form_is_refused(source):
    with pytest.raises(UserError, match=r"expected hub:org/name\[:config\[:split\[:column\]\]\]"):
        parse_hub(source)


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (["train.txt"], HubName("org/name"), "train.txt"),
        (["test.jsonl", "train.jsonl"], HubName("org/name"), "train.jsonl"),
        (["test.jsonl", "train.jsonl"], HubName("org/name", None, "test"), "test.jsonl"),
        (["validation.csv"], HubName("org/name"), "validation.csv"),
        (["train.txt"], HubName("org/name", "cfg"), "train.txt"),
        (["cfg/train.txt", "other/train.txt"], HubName("org/name", "cfg"), "cfg/train.txt"),
        (["cfg/train.txt", "train.txt"], HubName("org/name", "cfg"), "cfg/train.txt"),
        (["cfg/train.txt"], HubName("org/name"), "cfg/train.txt"),
        (["default/train.txt", "other/train.txt"], HubName("org/name"), "default/train.txt"),
    ],
)
def test_a_stand_in_is_found_by_config_and_split(data_dir, files, name, expected):
    for file in files:
        content = {"jsonl": f'{{"text": "{file}"}}\n', "csv": f"text\n{file}\n"}.get(file.rsplit(".", 1)[1], file)
        root = data_dir(file, content)
    table, revision = read_hub(name, root, 10)
    assert list(table.column("text")) == [expected]
    assert revision.startswith("data_dir sha256:")


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        (["test.txt", "dev.txt"], HubName("org/name"), r"several splits and no 'train' \(splits: dev, test\)"),
        (["test.txt"], HubName("org/name", None, "train"), r"no split 'train' \(splits: test\)"),
        (["a/train.txt", "b/train.txt"], HubName("org/name"), r"several configs \(configs: a, b\)"),
        (["a/train.txt", "b/train.txt"], HubName("org/name", "c"), r"no config 'c' \(configs: a, b\)"),
        (["README.md"], HubName("org/name"), r"holds no data: expected files such as train\.jsonl"),
    ],
)
def test_a_stand_in_without_the_config_or_split_says_what_it_has(data_dir, files, name, message):
    for file in files:
        root = data_dir(file)
    with pytest.raises(UserError, match=message):
        read_hub(name, root, 10)


def test_the_folder_comes_from_the_option_else_from_the_environment(data_dir, monkeypatch, tmp_path):
    root = data_dir("train.txt")
    assert stand_in("org/name", None) is None
    assert stand_in("org/other", root) is None
    monkeypatch.setenv(hub.DATA_DIR, root)
    assert stand_in("org/name", None) == stand_in("org/name", root)
    (tmp_path / "empty").mkdir()
    assert stand_in("org/name", str(tmp_path / "empty")) is None


def test_a_data_dir_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a folder: give one that holds org/name"):
        stand_in("org/name", str(tmp_path / "none"))


def test_no_more_rows_of_a_stand_in_are_read_than_asked(data_dir):
    table, _ = read_hub(HubName("org/name"), data_dir("train.txt", "a\nb\nc\n"), 2)
    assert [table.id(place) for place in range(len(table.numbers))] == ["line-1", "line-2"]


def test_without_internet_the_error_says_which_file_would_do(data_dir):
    root = data_dir("train.txt")
    with pytest.raises(UserError) as failure:
        read_hub(HubName("org/none", "cfg", "test"), root, 10)
    message = str(failure.value)
    assert "'org/none' is not under data_dir" in message
    assert "the hub cannot be reached" in message
    assert "/org/none/cfg/test.jsonl" in message
    assert hub.DATA_DIR in message
    with pytest.raises(UserError, match=r"has no stand-in \(no data_dir is set\).*'DIR/org/none/train\.jsonl'"):
        read_hub(HubName("org/none"), None, 10)


def test_offline_mode_asks_nobody_and_says_so(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_commit", lambda name: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set and it is not in the cache"):
        read_hub(HubName("org/none"), None, 10)


@pytest.fixture
def asked(monkeypatch):
    """A hub that has ROWS, and what it was asked for."""
    calls = []

    def load_dataset(path, name, **options):
        calls.append((path, name, options))
        rows = datasets.Dataset.from_list(ROWS)
        return rows.to_iterable_dataset() if options["streaming"] else rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_the_hub_is_read_at_its_current_commit_and_only_as_far_as_asked(asked, monkeypatch):
    monkeypatch.setattr(hub, "_commit", lambda name: "abc123")
    table, revision = read_hub(HubName("org/name", "cfg"), None, 3)
    assert revision == "abc123"
    assert [table.id(place) for place in range(len(table.numbers))] == ["row-1", "row-2", "row-3"]
    assert list(table.column("text")) == ["text 0", "text 1", "text 2"]
    assert table.textual == ("text",)
    assert asked == [("org/name", "cfg", {"split": "train", "revision": "abc123", "streaming": True})]


def test_offline_mode_reads_the_cache(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "cache/org___name").mkdir(parents=True)
    table, revision = read_hub(HubName("org/name", None, "test"), None, 3)
    assert len(table.numbers) == 3
    assert revision.startswith("cached ")
    assert asked == [("org/name", None, {"split": "test", "revision": None, "streaming": False})]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError("Unknown split 'x'.\nShould be one of ['test']."),
            r"'org/name': Unknown split 'x'\. Should be one",
        ),
        (datasets.exceptions.DatasetNotFoundError("gone"), "the hub cannot be reached"),
        (ConnectionError("Couldn't reach"), "the hub cannot be reached"),
        (
            RuntimeError("Dataset scripts are no longer\nsupported"),
            r"cannot be read \(RuntimeError: Dataset scripts are no longer supported\): check its config",
        ),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(monkeypatch, error, message):
    def load_dataset(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_commit", lambda name: "abc123")
    with pytest.raises(UserError, match=message):
        read_hub(HubName("org/name"), None, 3)
