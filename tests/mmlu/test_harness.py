"""lm-eval's prompts and lm-eval's scores, from the questions that it is given."""

import random

import numpy as np
import pytest
from transformers import AutoTokenizer

from layerscope.config import ModelSpec
from layerscope.mmlu.harness import Harness
from layerscope.mmlu.questions import load_questions
from layerscope.mmlu.spec import MmluSpec


@pytest.fixture
def questions(write, rows):
    examples = [row | {"split": "dev", "question": f"example {i}"} for i, row in enumerate(rows)]
    return load_questions(MmluSpec(model=ModelSpec(name="none"), questions=write([*rows, *examples])))


@pytest.fixture
def tokenizer(one_token):
    return AutoTokenizer.from_pretrained(one_token)


def asked_text(question):
    lines = [question.text, *(f"{letter}. {choice}" for letter, choice in zip("ABCD", question.choices, strict=True))]
    return "\n".join([*lines, "Answer:"])


def test_prompts_are_those_of_mmlu(questions, tokenizer):
    asked = Harness(questions, 2, False, None, 0).ask(tokenizer)
    assert len(asked) == 20
    one = next(each for each in asked if each.subject == "my_subject")
    header = "The following are multiple choice questions (with answers) about my subject.\n\n"
    examples = questions.dev["my_subject"][:2]
    shots = "".join(f"{asked_text(each)} {'ABCD'[each.answer]}\n\n" for each in examples)
    assert one.text == header + shots + asked_text(one.question)
    assert list(one.tokens) == tokenizer(one.text)["input_ids"]
    assert [tokenizer.decode(ids) for ids in one.letters] == [" A", " B", " C", " D"]
    stock = next(each for each in asked if each.subject == "anatomy")
    assert stock.text.startswith("The following are multiple choice questions (with answers) about anatomy.\n\n")


def test_a_limit_takes_the_first_questions(questions, tokenizer):
    asked = Harness(questions, 0, False, 3, 0).ask(tokenizer)
    assert [each.question for each in asked if each.subject == "virology"] == list(questions.test["virology"][:3])


def test_examples_drawn_from_the_questions_leave_the_tested_one_out(questions, tokenizer):
    harness = Harness(questions, 3, True, None, 0)
    asked = harness.ask(tokenizer)
    for one in asked:
        others = [each for each in questions.test[one.subject] if each != one.question]
        assert one.text.count("Answer:") == 4
        assert all(f"{asked_text(each)} {'ABCD'[each.answer]}\n\n" in one.text for each in others)
        assert one.text.count(asked_text(one.question)) == 1
    assert asked == harness.ask(tokenizer)
    assert asked != Harness(questions, 3, True, None, 1).ask(tokenizer)
    assert harness.ask(tokenizer)[:2] == Harness(questions, 3, True, 2, 0).ask(tokenizer)[:2]


def test_scores_are_lm_evals(questions, tokenizer):
    harness = Harness(questions, 0, False, None, 0)
    asked = harness.ask(tokenizer)
    letters = np.zeros((len(asked), 4, 2))
    letters[:, :, 0] = np.random.default_rng(0).random((len(asked), 4))
    expected = [int(one[:, 0].argmax()) == each.question.answer for one, each in zip(letters, asked, strict=True)]
    assert harness.score(asked, letters) == expected
    assert 0 < sum(expected) < len(expected)


def test_the_global_generators_and_loggers_are_left_alone(questions, tokenizer, capfd):
    random.seed(5)
    before = random.getstate()
    Harness(questions, 1, True, 2, 0).ask(tokenizer)
    assert random.getstate() == before
    assert capfd.readouterr() == ("", "")
