"""The offline tasks: ordinary task classes with a fixed split."""

from __future__ import annotations

from collections import Counter

from layerscope.tasks import wiki_tasks
from layerscope.tasks.data import load_task_data, sample_counts


def test_the_split_is_even_and_apart() -> None:
    train, test = wiki_tasks.wiki_split()
    assert set(Counter(lead.topic for lead in train).values()) == {16}
    assert set(Counter(lead.topic for lead in test).values()) == {48}
    assert len({lead.topic for lead in test}) == 11
    assert not {lead.title for lead in train} & {lead.title for lead in test}


def test_the_tasks_load_and_say_what_data_they_are_on(tmp_path) -> None:
    sizes = {}
    for cls in (
        wiki_tasks.WikiTopicClassification,
        wiki_tasks.WikiTopicClustering,
        wiki_tasks.WikiDescriptionRetrieval,
    ):
        task = cls()
        load_task_data(task, None, tmp_path)
        sizes[task.metadata.name] = sample_counts(task)["test/default"]
        assert "sha256:" in task.metadata.revision
    assert sizes["WikiTopicClassification"] == sizes["WikiTopicClustering"] == 528
    assert 480 < sizes["WikiDescriptionRetrieval"] <= 528


def test_a_description_that_several_leads_share_is_answered_by_each() -> None:
    task = wiki_tasks.WikiDescriptionRetrieval()
    task.load_data()
    data = task.dataset["default"]["test"]
    texts = dict(zip(data["queries"]["id"], data["queries"]["text"], strict=True))
    train, test = wiki_tasks.wiki_split()
    leads = [*train, *test]
    for query, answers in data["relevant_docs"].items():
        expected = {f"lead-{n}" for n, lead in enumerate(leads) if lead.description == texts[query]}
        assert answers.keys() == expected
        assert expected


def test_clustering_texts_are_classified_texts_so_that_nothing_is_encoded_twice() -> None:
    classification, clustering = wiki_tasks.WikiTopicClassification(), wiki_tasks.WikiTopicClustering()
    classification.load_data()
    clustering.load_data()
    assert set(clustering.dataset["test"]["sentences"]) == set(classification.dataset["test"]["text"])
