"""A local folder stands in for the hub, for every kind of task; without one the error names it, at once."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from layerscope.errors import RunFailedError, UserError
from layerscope.tasks import data
from layerscope.tasks.choice import choose_tasks
from layerscope.tasks.data import load_task_data, sample_counts


@pytest.fixture(autouse=True)
def _own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "layerscope"))
    (tmp_path / "layerscope").mkdir()
    monkeypatch.delenv("LAYERSCOPE_DATA_DIR", raising=False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def home() -> Path:
    return Path(tempfile.mkdtemp(dir=os.environ["LAYERSCOPE_CACHE"]))


def write(folder, name, rows) -> None:
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def task(name, subsets=("english",)):
    return choose_tasks((name,), None, subsets)[0]


def test_one_config(tmp_path) -> None:
    pairs = [{"sentence1": "a", "sentence2": "b", "score": 1.0}, {"sentence1": "c", "sentence2": "d", "score": 2.0}]
    write(tmp_path / "mteb/sts15-sts", "test", pairs)
    sts = task("STS15")
    load_task_data(sts, str(tmp_path), home())
    assert sts.dataset["test"]["sentence1"][:] == ["a", "c"]
    assert sample_counts(sts) == {"test/default": 2}
    assert sts.metadata.revision.startswith("local-")
    other = task("STS15")
    write(tmp_path / "mteb/sts15-sts", "test", pairs[:1])
    load_task_data(other, str(tmp_path), home())
    assert other.metadata.revision != sts.metadata.revision


def test_several_configs_need_no_readme(tmp_path) -> None:
    for language in ("en", "de"):
        for split in ("train", "test"):
            write(
                tmp_path / "mteb/MTOPDomainClassification" / language,
                split,
                [{"text": f"{language} {split} {n}", "label": n % 2, "label_text": "x"} for n in range(4)],
            )
    mtop = task("MTOPDomainClassification")
    load_task_data(mtop, str(tmp_path), home())
    assert mtop.dataset["en"]["test"]["text"][0] == "en test 0"
    assert mtop.dataset.keys() == {"en"}
    with pytest.raises(UserError, match=r"has no config 'fr' \(configs: de, en\): put it at .*/fr/test.jsonl"):
        load_task_data(task("MTOPDomainClassification", ("fr",)), str(tmp_path), home())


def test_fast_loading_tasks_have_a_lang_column(tmp_path) -> None:
    rows = [{"sentence1": f"{lang} a", "sentence2": "b", "score": 1.0, "lang": lang} for lang in ("en-en", "es-es")]
    write(tmp_path / "mteb/sts17-crosslingual-sts", "test", rows)
    sts = task("STS17")
    load_task_data(sts, str(tmp_path), home())
    assert sts.dataset["en-en"]["test"]["sentence1"][:] == ["en-en a"]
    assert sample_counts(sts) == {"test/en-en": 1}


def retrieval(folder) -> None:
    write(folder / "corpus", "corpus", [{"_id": f"d{n}", "title": "", "text": f"document {n}"} for n in range(3)])
    write(folder / "queries", "queries", [{"_id": "q0", "text": "question"}, {"_id": "q1", "text": "unasked"}])
    write(folder / "qrels", "test", [{"query-id": "q0", "corpus-id": "d1", "score": 1}])


def test_retrieval(tmp_path) -> None:
    retrieval(tmp_path / "mteb/scifact")
    scifact = task("SciFact")
    load_task_data(scifact, str(tmp_path), home())
    test = scifact.dataset["default"]["test"]
    assert len(test["corpus"]) == 3
    assert test["relevant_docs"] == {"q0": {"d1": 1}}
    assert sample_counts(scifact) == {"test/default": 1}


def test_reranking_needs_its_candidates(tmp_path) -> None:
    folder = tmp_path / "mteb/AskUbuntuDupQuestions"
    retrieval(folder)
    with pytest.raises(UserError, match="needs the folder top_ranked"):
        load_task_data(task("AskUbuntuDupQuestions"), str(tmp_path), home())
    write(folder / "top_ranked", "test", [{"query-id": "q0", "corpus-ids": ["d0", "d1"]}])
    reranking = task("AskUbuntuDupQuestions")
    load_task_data(reranking, str(tmp_path), home())
    assert reranking.dataset["default"]["test"]["top_ranked"] == {"q0": ["d0", "d1"]}


def test_a_retrieval_stand_in_without_a_corpus(tmp_path) -> None:
    write(tmp_path / "mteb/scifact", "test", [{"query-id": "q0", "corpus-id": "d1", "score": 1}])
    with pytest.raises(UserError, match="needs the folders corpus, queries and qrels"):
        load_task_data(task("SciFact"), str(tmp_path), home())


def test_a_readme_of_the_users_own_is_used(tmp_path) -> None:
    folder = tmp_path / "mteb/MTOPDomainClassification"
    for split in ("train", "test"):
        write(folder / "en", split, [{"text": split, "label": 0, "label_text": "x"}])
    files = [{"split": split, "path": f"en/{split}.jsonl"} for split in ("train", "test")]
    (folder / "README.md").write_text(
        f"---\n{json.dumps({'configs': [{'config_name': 'en', 'data_files': files}]})}\n---\n"
    )
    mtop = task("MTOPDomainClassification")
    load_task_data(mtop, str(tmp_path), home())
    assert mtop.metadata.dataset["path"] == str(folder)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("STS12", "DIR/mteb/sts12-sts/test.jsonl"),
        ("EmotionClassification", "DIR/mteb/emotion/{train,test}.jsonl"),
        ("MTOPDomainClassification", "DIR/mteb/MTOPDomainClassification/en/{train,test}.jsonl"),
        ("SciFact", "DIR/mteb/scifact/{corpus,queries,qrels}/test.jsonl"),
        ("AskUbuntuDupQuestions", "DIR/mteb/AskUbuntuDupQuestions/{corpus,queries,qrels,top_ranked}/test.jsonl"),
    ],
)
def test_data_that_cannot_be_had_is_said_at_once(name, file, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(data, "hub_reachable", lambda _: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    start = time.perf_counter()
    with pytest.raises(UserError) as error:
        load_task_data(task(name), None, home())
    assert time.perf_counter() - start < 5
    assert f"put it at {file} and give --data-dir DIR" in str(error.value)
    assert "the hub cannot be reached" in str(error.value)


def test_other_columns_than_the_task_expects(tmp_path) -> None:
    folder = tmp_path / "mteb/MTOPDomainClassification"
    (folder / "en").mkdir(parents=True)
    (folder / "en" / "test.jsonl").write_text('{"text": "cut o')
    with pytest.raises(
        UserError, match=r"task MTOPDomainClassification: the stand-in .* is not the data that the task"
    ):
        load_task_data(task("MTOPDomainClassification"), str(tmp_path), home())


def test_a_data_dir_that_is_no_folder(tmp_path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        load_task_data(task("STS15"), str(tmp_path / "nothing"), home())


@pytest.mark.parametrize("readme", [b"\xff\xfe configs", b"---\nconfigs: [3\n---\n", b"---\nconfigs: 7\n---\n"])
def test_a_readme_of_another_shape_is_named(tmp_path, readme) -> None:
    folder = tmp_path / "mteb/MTOPDomainClassification"
    write(folder / "en", "test", [{"text": "a", "label": 0, "label_text": "x"}])
    (folder / "README.md").write_bytes(readme)
    with pytest.raises(UserError, match=f"task MTOPDomainClassification: the stand-in {folder} is not the data"):
        load_task_data(task("MTOPDomainClassification"), str(tmp_path), home())


def test_a_disk_that_is_full_is_what_is_said(tmp_path, monkeypatch) -> None:
    write(tmp_path / "mteb/sts15-sts", "test", [{"sentence1": "a", "sentence2": "b", "score": 1.0}])

    def full(*_, **__):
        raise ValueError("generating the data failed") from OSError(28, "No space left on device")

    sts = task("STS15")
    monkeypatch.setattr(type(sts), "load_data", full)
    with pytest.raises(RunFailedError, match="the disk is full"):
        load_task_data(sts, str(tmp_path), home())


def test_names_of_files_that_are_no_utf_8_have_a_revision(tmp_path) -> None:
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text("a\n1\n")
    assert data.local_revision(tmp_path).startswith("local-")
