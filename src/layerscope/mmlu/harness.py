"""lm-eval's part: it builds the prompts from its own MMLU tasks and scores log-likelihoods with its own metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from layerscope.inputs.quiet import quiet_loggers, quiet_stderr
from layerscope.mmlu.questions import NEEDED, Question, QuestionSet, lm_eval_folder
from layerscope.tasks.process import import_quietly, kept_random_state

STOCK = Path("tasks", "mmlu", "default")
TEMPLATE = "_default_template_yaml"

Ids = tuple[int, ...]
Letters = Float64[np.ndarray, "questions letters two"]
"""Log-likelihood of each letter, and 1 where greedy decoding gives it, else 0."""
_Answer = Callable[[Sequence[Any], Sequence[tuple[Ids, Ids]]], list[tuple[float, bool]]]


@dataclass(frozen=True)
class Asked:
    """One question as lm-eval asks it: the text before the answer, and the token ids of it and of each letter."""

    subject: str
    question: Question
    text: str
    tokens: Ids
    letters: tuple[Ids, ...]


@dataclass(frozen=True)
class Harness:
    """lm-eval's MMLU tasks on some questions.

    `from_asked`: the examples before a question are other questions of its subject, drawn by the seed.
    """

    questions: QuestionSet
    shots: int
    from_asked: bool
    limit: int | None
    seed: int

    def ask(self, tokenizer: Any) -> list[Asked]:  # noqa: ANN401
        """Every prompt that lm-eval would score, subject by subject, tokenized as lm-eval does."""
        grouped: dict[tuple[str, int], list[tuple[str, Ids, Ids]]] = {}

        def note(requests: Sequence[Any], pairs: Sequence[tuple[Ids, Ids]]) -> list[tuple[float, bool]]:
            for request, (context, letter) in zip(requests, pairs, strict=True):
                place = request.task_name.removeprefix(_task_name("")), request.doc_id
                grouped.setdefault(place, []).append((request.args[0], context, letter))
            return [(0.0, False)] * len(pairs)

        self._evaluate(tokenizer, note)
        return [
            Asked(subject, self.questions.test[subject][place], text, tokens, tuple(ids for *_, ids in group))
            for (subject, place), group in grouped.items()
            for text, tokens, _ in group[:1]
        ]

    def score(self, asked: Sequence[Asked], letters: Letters) -> list[bool]:
        """Whether lm-eval counts each question as answered rightly, given what the model makes of its letters."""
        places = {(_task_name(one.subject), one.question): place for place, one in enumerate(asked)}
        by_task = {_task_name(subject): listed for subject, listed in self.questions.test.items()}

        def replay(requests: Sequence[Any], _: Sequence[tuple[Ids, Ids]]) -> list[tuple[float, bool]]:
            tasks = [(request.task_name, by_task[request.task_name][request.doc_id]) for request in requests]
            found = (letters[places[task], request.idx] for task, request in zip(tasks, requests, strict=True))
            return [(float(loglikelihood), bool(greedy)) for loglikelihood, greedy in found]

        right = [False] * len(asked)
        for task, samples in self._evaluate(None, replay)["samples"].items():
            for sample in samples:
                right[places[task, by_task[task][sample["doc_id"]]]] = bool(sample["acc"])
        return right

    def _evaluate(self, tokenizer: Any, answer: _Answer) -> Mapping[str, Any]:  # noqa: ANN401
        import_quietly("lm_eval.evaluator", NEEDED)
        from lm_eval.evaluator import evaluate
        from lm_eval.tasks import TaskManager

        # Building and scoring draw progress bars that no setting turns off.
        with kept_random_state(), quiet_loggers("lm_eval"), quiet_stderr():
            manager = TaskManager(include_defaults=False, include_path=str(lm_eval_folder() / STOCK))
            tasks = manager.load([self._config(subject) for subject in self.questions.test])
            for task in tasks["tasks"].values():
                task.set_config("num_fewshot", self.shots)
                task.set_fewshot_seed(self.seed)
            model = _language_model(tokenizer, answer)
            results: Mapping[str, Any] = evaluate(model, tasks, limit=self.limit, bootstrap_iters=0)
        return results

    def _config(self, subject: str) -> dict[str, Any]:
        """lm-eval's own configuration of the subject, with the questions in place of its data set.

        Of a subject that it does not know, one made like the others.
        """
        import datasets
        import yaml

        folder = lm_eval_folder() / STOCK
        config: dict[str, Any] = yaml.safe_load((folder / TEMPLATE).read_text(encoding="utf-8"))
        own = folder / f"{_task_name(subject)}.yaml"
        if own.is_file():
            config |= yaml.safe_load(own.read_text(encoding="utf-8"))
        else:
            about = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
            config |= {"task": _task_name(subject), "description": about}
        for name in ("include", "tag", "dataset_path", "dataset_name"):
            config.pop(name, None)
        if self.from_asked:
            # lm-eval leaves the tested question out where both splits are the same.
            config |= {"fewshot_split": config["test_split"], "fewshot_config": {"sampler": "default"}}
        test, dev = self.questions.test[subject], self.questions.dev[subject]
        # A stock task wants its examples' split even where none is used. No id among the columns: a question that stands
        # twice must not be the example of its double.
        rows = {
            split: [
                {"question": q.text, "subject": q.subject, "choices": list(q.choices), "answer": q.answer} for q in part
            ]
            for split, part in (("test", test), ("dev", dev or test))
        }
        data = {split: datasets.Dataset.from_list(part) for split, part in rows.items()}
        return config | {"custom_dataset": lambda **_: data}


def _task_name(subject: str) -> str:
    return f"mmlu_{subject}"


def _language_model(tokenizer: Any, answer: _Answer) -> Any:  # noqa: ANN401
    """An lm-eval model whose requests are answered by a function; without a tokenizer it gets them as text only."""
    from lm_eval.api.model import TemplateLM

    class Answering(TemplateLM):  # type: ignore[misc]
        """Log-likelihoods only."""

        generate_until = loglikelihood_rolling = None

        @property
        def eot_token_id(self) -> int:
            return int(tokenizer.eos_token_id or 0)

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
            options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            if add_special_tokens is None and tokenizer.bos_token and string.startswith(tokenizer.bos_token):
                options = {"add_special_tokens": False}
            return list(tokenizer.encode(string, verbose=False, **options))

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
            # The base class tokenizes each request and hands it to the method below.
            super().loglikelihood(requests if tokenizer is not None else [], disable_tqdm=disable_tqdm)
            return answer(requests, self.pairs)

        def _loglikelihood_tokens(self, requests: Sequence[Any], **_: object) -> list[tuple[float, bool]]:
            self.pairs = [(tuple(context), tuple(letter)) for _, context, letter in requests]
            return []

    return Answering()
