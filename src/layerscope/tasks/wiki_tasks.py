"""Tasks that need no hub, on the English Wikipedia leads of the package behind the texts `wiki`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from layerscope.inputs.wiki import WikiLead, load_wiki, wiki_revision

TEST_PER_TOPIC = 48
TRAIN_PER_TOPIC = 16
_PATH = "wiki"


def _metadata(name: str, kind: str, main_score: str, description: str) -> TaskMetadata:
    same: dict[str, Any] = {"eval_splits": ["test"], "eval_langs": ["eng-Latn"], "modalities": ["text"]}
    same |= {"dataset": {"path": _PATH, "revision": "wiki"}, "category": "t2t" if kind == "Retrieval" else "t2c"}
    return TaskMetadata(name=name, type=kind, main_score=main_score, description=description, **same)


def wiki_split() -> tuple[list[WikiLead], list[WikiLead]]:
    """Training and test leads: per topic, 16 and 48 of those that have a description, in the order of their titles' hash."""
    by_topic: dict[str, list[WikiLead]] = {}
    for lead in sorted(load_wiki(), key=lambda lead: hashlib.sha256(lead.title.encode()).digest()):
        if lead.topic and lead.description:
            by_topic.setdefault(lead.topic, []).append(lead)
    train = [lead for topic in sorted(by_topic) for lead in by_topic[topic][:TRAIN_PER_TOPIC]]
    end = TRAIN_PER_TOPIC + TEST_PER_TOPIC
    return train, [lead for topic in sorted(by_topic) for lead in by_topic[topic][TRAIN_PER_TOPIC:end]]


def _labelled(leads: Sequence[WikiLead], text: str, label: str) -> Dataset:
    topics = sorted({lead.topic for lead in leads})
    columns = {text: [lead.extract for lead in leads], label: [topics.index(lead.topic) for lead in leads]}
    return Dataset.from_dict(columns)


class _OnWiki:
    """A task whose data is made of the leads of the installed package."""

    metadata: TaskMetadata
    data_loaded: bool
    data_revision = staticmethod(wiki_revision)
    _made_of: Callable[..., Any]

    def load_data(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Read the leads; the task's revision is then that of the package."""
        if not self.data_loaded:
            self.metadata = self.metadata.model_copy(update={"dataset": {"path": _PATH, "revision": wiki_revision()}})
            self.dataset = self._made_of(*wiki_split())
            self.data_loaded = True


class WikiTopicClassification(_OnWiki, AbsTaskClassification):  # type: ignore[misc]
    """The topic of a lead, of 11, by logistic regression on 8 leads a topic; 10 experiments, 528 test leads."""

    metadata = _metadata(
        "WikiTopicClassification", "Classification", "accuracy", "Topic of an English Wikipedia lead, 11 topics."
    )

    def _made_of(self, train: list[WikiLead], test: list[WikiLead]) -> DatasetDict:
        return DatasetDict(train=_labelled(train, "text", "label"), test=_labelled(test, "text", "label"))


class WikiTopicClustering(_OnWiki, AbsTaskClustering):  # type: ignore[misc]
    """Clusters of the 528 test leads against their 11 topics; 10 experiments of 256 leads."""

    metadata = _metadata(
        "WikiTopicClustering", "Clustering", "v_measure", "Clusters of English Wikipedia leads against 11 topics."
    )
    max_fraction_of_documents_to_embed = None
    max_documents_per_cluster = 256

    def _made_of(self, _: list[WikiLead], test: list[WikiLead]) -> DatasetDict:
        return DatasetDict(test=_labelled(test, "sentences", "labels"))


class WikiDescriptionRetrieval(_OnWiki, AbsTaskRetrieval):  # type: ignore[misc]
    """The lead that a short description belongs to: a query for each test lead, among the 704 training and test leads."""

    metadata = _metadata(
        "WikiDescriptionRetrieval",
        "Retrieval",
        "ndcg_at_10",
        "From a short description to the Wikipedia lead it describes.",
    )

    def _made_of(self, train: list[WikiLead], test: list[WikiLead]) -> dict[str, Any]:
        leads = [*train, *test]
        # Several leads can share a description ("Village in Iran"): each of them answers the query.
        answers: dict[str, dict[str, int]] = {}
        for number, lead in enumerate(leads):
            answers.setdefault(lead.description, {})[f"lead-{number}"] = 1
        asked = {lead.description: f"query-{number}" for number, lead in enumerate(test)}
        texts = {"id": [f"lead-{n}" for n in range(len(leads))], "text": [lead.extract for lead in leads]}
        parts = {
            "corpus": Dataset.from_dict(texts),
            "queries": Dataset.from_dict({"id": list(asked.values()), "text": list(asked)}),
            "relevant_docs": {identity: answers[text] for text, identity in asked.items()},
            "top_ranked": None,
        }
        return {"default": {"test": parts}}
