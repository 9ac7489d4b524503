"""Task classes as a user writes them."""

from random import Random

from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskClassification, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

WORDS = (
    ["cat", "dog", "mouse", "horse", "animals", "run", "jump", "sleep", "eat"],
    ["house", "door", "window", "roof", "street", "city", "bridge", "tower"],
    ["river", "lake", "sea", "rain", "snow", "cloud", "wind", "storm", "wave"],
)


def sentence(number: int) -> str:
    """A sentence of mostly one of three topics; no two numbers below 10,000 give the same."""
    random = Random(number)
    topics = [number % 3 if random.random() < 0.6 else random.randrange(3) for _ in range(4 + number % 5)]
    return " ".join([*(random.choice(WORDS[topic]) for topic in topics), str(number)])


def metadata(name: str, kind: str, main_score: str, **more: object) -> TaskMetadata:
    return TaskMetadata(
        name=name, description="For tests.", type=kind, main_score=main_score, category="t2t", eval_splits=["test"],
        eval_langs=["eng-Latn"], modalities=["text"], dataset={"path": "mine", "revision": "1"}, **more,
    )  # fmt: skip


class OwnClassification(AbsTaskClassification):
    metadata = metadata("OwnClassification", "Classification", "accuracy")
    samples_per_label = 8

    def load_data(self, **_: object) -> None:
        def rows(start: int, stop: int) -> Dataset:
            return Dataset.from_dict(
                {"text": [sentence(n) for n in range(start, stop)], "label": [n % 3 for n in range(start, stop)]}
            )

        self.dataset = DatasetDict(train=rows(0, 90), test=rows(90, 150))
        self.data_loaded = True


class OwnSTS(AbsTaskSTS):
    metadata = metadata("OwnSTS", "STS", "cosine_spearman")
    min_score = 0
    max_score = 5

    def load_data(self, **_: object) -> None:
        numbers = range(80)
        self.dataset = DatasetDict(
            test=Dataset.from_dict(
                {
                    "sentence1": [sentence(n) for n in numbers],
                    "sentence2": [sentence(n * 7 + 1) for n in numbers],
                    "score": [float(n % 6) for n in numbers],
                }
            )
        )
        self.data_loaded = True
