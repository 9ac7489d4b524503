"""From names to tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.errors import UserError
from layerscope.tasks.choice import BENCHMARKS, build_task, choose_subsets, choose_tasks, task_classes


def test_paper32_is_what_the_papers_harness_leaves_of_mtebs_english_benchmark() -> None:
    import mteb

    benchmark = {task.metadata.name: task for task in mteb.get_benchmark("MTEB(eng, v1)").tasks}
    dropped = {"AmazonPolarityClassification", "ImdbClassification", "STS22", "SummEval"}
    expected = {
        name
        for name, task in benchmark.items()
        if task.metadata.type != "Retrieval" and not name.endswith("P2P") and name not in dropped
    }
    assert set(BENCHMARKS["paper32"]) == expected
    assert len(BENCHMARKS["paper32"]) == 32
    for task in choose_tasks((), "paper32", ("english",)):
        theirs = benchmark[task.metadata.name]
        assert list(task.hf_subsets) == list(theirs.hf_subsets), task.metadata.name
        assert list(task.eval_splits) == ["test"] == list(theirs.eval_splits)


def test_offline_tasks_exist_and_are_named_once() -> None:
    tasks = choose_tasks((*BENCHMARKS["offline"], "STS15"), "offline", ("english",))
    assert [task.metadata.name for task in tasks] == [*BENCHMARKS["offline"], "STS15"]
    assert not set(BENCHMARKS["offline"]) & task_classes().keys()


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"unknown task 'Banking77Clasification': did you mean 'Banking77Classification'"
    ):
        build_task("Banking77Clasification")
    with pytest.raises(UserError, match=r"did you mean .*'WikiTopicClassification'"):
        build_task("WikiTopicClasification")


def test_a_task_on_images_is_refused() -> None:
    with pytest.raises(UserError, match="needs image: only tasks on text"):
        choose_tasks(("CIFAR10",), None, ("english",))


LANGUAGES = {"de": ["deu-Latn"], "en": ["eng-Latn"], "en-ext": ["eng-Latn"], "de-en": ["deu-Latn", "eng-Latn"]}


@pytest.mark.parametrize(
    ("available", "wanted", "chosen"),
    [
        (LANGUAGES, ("english",), ["en"]),
        (LANGUAGES, ("all",), list(LANGUAGES)),
        (LANGUAGES, ("de", "english"), ["en", "de"]),
        (LANGUAGES, ("de-en",), ["de-en"]),
        ({"eng_a": ["eng-Latn"], "eng_b": ["eng-Latn"], "fr": ["fra-Latn"]}, ("english",), ["eng_a", "eng_b"]),
        ({"de": ["deu-Latn"], "fr": ["fra-Latn"]}, ("english",), ["de", "fr"]),
        ({"default": ["deu-Latn"]}, ("fr",), ["default"]),
    ],
)
def test_subsets(available, wanted, chosen) -> None:
    assert choose_subsets(available, wanted, "T") == chosen


def test_a_subset_that_is_not_there() -> None:
    with pytest.raises(UserError, match="task 'T' has no subset enn: did you mean en"):
        choose_subsets(LANGUAGES, ("enn",), "T")


OWN = str(Path(__file__).parent / "own_tasks.py")


def test_a_task_class_in_a_file() -> None:
    assert build_task(f"{OWN}:OwnSTS").metadata.name == "OwnSTS"
    with pytest.raises(UserError, match="holds several tasks"):
        build_task(OWN)
    with pytest.raises(UserError, match=r"unknown task class in .*own_tasks.py 'OwnST': did you mean 'OwnSTS'"):
        build_task(f"{OWN}:OwnST")


@pytest.mark.parametrize(
    ("content", "message"),
    [("x = 1", "holds no task class"), ("import nothing_like_this", r"failed when it was run \(ModuleNotFoundError")],
)
def test_a_file_without_a_task(tmp_path, content, message) -> None:
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        build_task(f"{file}:Mine")


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        build_task(f"{tmp_path}/nothing.py:Mine")
