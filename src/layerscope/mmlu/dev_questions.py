"""The MMLU dev questions that come with lm-eval, as the examples of its chain-of-thought tasks: no hub needed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from layerscope.errors import RunFailedError, missing_package

FOLDER = Path("tasks", "mmlu", "flan_cot_fewshot")
LETTERS = "ABCD"
_CHOICES = re.compile(r"(.*)\n+\(A\)(.*?)\(B\)(.*?)\(C\)(.*?)\(D\)(.*)", re.DOTALL)
_ANSWER = re.compile(r"answer is \(([A-Z])\)\.?\s*$")


def lm_eval_folder() -> Path:
    """Where lm-eval is installed; it is not imported.

    Raises:
        UserError: it is not installed.
    """
    found = importlib.util.find_spec("lm_eval")
    if found is None or not found.origin:
        raise missing_package("lm-eval", "`layerscope mmlu`")
    return Path(found.origin).parent


def dev_questions() -> Iterator[tuple[str, str, dict[str, object] | str]]:
    """Every example of every subject: its subject, its id, and the question, or the reason it is none.

    Raises:
        RunFailedError: this version of lm-eval keeps them elsewhere.
    """
    import yaml

    files = sorted((lm_eval_folder() / FOLDER).glob("mmlu_*.yaml"))
    if not files:
        raise RunFailedError(f"this lm-eval has no {FOLDER}: give the questions as a file (--questions FILE)")
    for file in files:
        subject = file.stem.removeprefix("mmlu_")
        samples = yaml.safe_load(file.read_text(encoding="utf-8"))["fewshot_config"]["samples"]
        for number, sample in enumerate(samples, 1):
            yield subject, f"dev-{number}", parse_example(sample["question"], sample["target"])


def parse_example(question: str, target: str) -> dict[str, object] | str:
    """A question with its choices and answer from an example's two texts; the reason where it is not one of four."""
    parts = _CHOICES.fullmatch(question.strip())
    answer = _ANSWER.search(target)
    if parts is None or answer is None:
        return "its choices or its answer cannot be told apart"
    text, *choices = (part.strip() for part in parts.groups())
    if "(E)" in choices[-1] or answer[1] not in LETTERS:
        return "it has more than four choices"
    return {"question": text, "choices": choices, "answer": LETTERS.index(answer[1])}
