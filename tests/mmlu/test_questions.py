"""Questions from every source, and what is wrong with a file said in a sentence."""

import json

import polars as pl
import pytest

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.mmlu.questions import choose_shots, load_questions, parse_example
from layerscope.mmlu.spec import MmluSpec

MODEL = ModelSpec(name="none")


def spec(questions, **options):
    return MmluSpec(model=MODEL, questions=questions, **options)


def test_a_file_by_subject(write, rows):
    found = load_questions(spec(write(rows)))
    assert list(found.test) == sorted({row["subject"] for row in rows})
    first = found.test["anatomy"][0]
    assert (first.text, list(first.choices), first.answer) == (
        rows[0]["question"],
        rows[0]["choices"],
        rows[0]["answer"],
    )
    assert first.id == "line-1"
    assert found.revision.startswith("sha256:")
    assert not any(found.dev.values())


@pytest.mark.parametrize("answer", [2, "C", "c", "2"])
def test_answers_as_places_and_letters(write, rows, answer):
    rows[0]["answer"] = answer
    assert load_questions(spec(write(rows))).test["anatomy"][0].answer == 2


@pytest.mark.parametrize("kind", ["csv list", "csv letters", "parquet"])
def test_other_formats_hold_the_same_questions(write, rows, kind, tmp_path):
    expected = load_questions(spec(write(rows)))
    table = pl.DataFrame(rows)
    path = tmp_path / ("q.parquet" if kind == "parquet" else "q.csv")
    if kind == "parquet":
        table.write_parquet(path)
    elif kind == "csv list":
        table.with_columns(choices=pl.Series([json.dumps(row["choices"]) for row in rows])).write_csv(path)
    else:
        columns = {letter: [row["choices"][i] for row in rows] for i, letter in enumerate("ABCD")}
        table.drop("choices").with_columns(**{k: pl.Series(v) for k, v in columns.items()}).write_csv(path)
    found = load_questions(spec(str(path)))
    for subject, questions in expected.test.items():
        assert [(q.text, q.choices, q.answer) for q in found.test[subject]] == [
            (q.text, q.choices, q.answer) for q in questions
        ]


def test_a_dev_split_is_kept_apart_and_sets_the_shots(write, rows):
    examples = [row | {"split": "dev"} for row in rows for _ in range(2)]
    found = load_questions(spec(write([row | {"split": "test"} for row in rows] + examples)))
    assert {len(questions) for questions in found.test.values()} == {4}
    assert {len(questions) for questions in found.dev.values()} == {8}
    assert choose_shots(spec("mmlu"), found) == (5, False)
    assert choose_shots(spec("mmlu", shots=7), found) == (7, False)
    with pytest.raises(UserError, match=r"expected 9 examples .split dev. in every subject, got 8 in 'anatomy'"):
        choose_shots(spec("mmlu", shots=9), found)


def test_without_examples_other_questions_are_them(write, rows):
    found = load_questions(spec(write(rows)))
    assert choose_shots(spec("mmlu"), found) == (0, False)
    assert choose_shots(spec("mmlu", shots=3), found) == (3, True)
    with pytest.raises(UserError, match=r"more than 4 questions a subject.*got 4 in 'anatomy': use fewer shots"):
        choose_shots(spec("mmlu", shots=4), found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 4}, "line-1: expected the answer as a place from 0 to 3 or a letter from A to D, got 4"),
        ({"answer": "E"}, "got 'E', which is not among the choices"),
        ({"answer": True}, "got True"),
        ({"answer": None}, "got None"),
        ({"choices": ["a", "b", "c"]}, "line-1: expected 4 choices, as MMLU's prompt has .A to D., got 3"),
        ({"choices": "a, b, c, d"}, "expected the choices as a JSON list"),
        ({"question": "  "}, "expected text in the column 'question', got '  '"),
        ({"split": "holdout"}, "expected the split test .asked. or dev .examples., got 'holdout'"),
    ],
)
def test_rows_that_are_no_question(write, rows, change, message):
    with pytest.raises(UserError, match=message):
        load_questions(spec(write([rows[0] | change, *rows[1:]])))


def test_columns_that_are_missing(write, rows):
    without = [{("qestion" if name == "question" else name): cell for name, cell in row.items()} for row in rows]
    with pytest.raises(UserError, match=r"no column 'question' .*did you mean 'qestion' as 'question'"):
        load_questions(spec(write(without)))
    with pytest.raises(UserError, match=r"no column 'choices' .or the choices as columns A, B, C, D"):
        load_questions(spec(write([{k: v for k, v in row.items() if k != "choices"} for row in rows])))


def test_names_that_do_not_exist(write, rows):
    with pytest.raises(UserError, match=r"unknown subject 'virolgy': did you mean 'virology'"):
        load_questions(spec(write(rows), subjects="virolgy"))
    with pytest.raises(UserError, match=r"unknown questions 'lm-eval': did you mean 'lm-eval-dev'"):
        load_questions(spec("lm-eval"))
    with pytest.raises(UserError, match=r"expected a file that ends in .jsonl, .csv, .parquet"):
        load_questions(spec("questions.txt"))


def test_too_few_questions(write, rows):
    found = load_questions(spec(write(rows[:-3])))
    with pytest.raises(UserError, match=r"at least 2 questions a subject, got 1 in 'virology'"):
        choose_shots(spec("mmlu"), found)


def test_the_questions_that_lm_eval_ships():
    found = load_questions(spec("lm-eval-dev"))
    assert len(found.test) == 57
    assert sum(map(len, found.test.values())) == 281
    assert found.skipped == (("college_chemistry/dev-4", "it has more than four choices"),)
    keys = [question.answer for questions in found.test.values() for question in questions]
    assert all(keys.count(place) > 40 for place in range(4))


def test_an_example_taken_apart():
    text = "Which (A) is\nit?\n\n(A) one (B) two\n(C) three (D) four"
    assert parse_example(text, "Because. The answer is (C).\n") == {
        "question": "Which (A) is\nit?", "choices": ["one", "two", "three", "four"], "answer": 2,
    }  # fmt: skip
    assert "more than four" in parse_example(text + " (E) five", "The answer is (E).")
    assert "cannot be told apart" in parse_example("no choices", "The answer is (A).")


@pytest.mark.parametrize("layout", ["all", "by subject", "one folder"])
def test_a_folder_stands_in_for_the_hub(rows, layout, tmp_path):
    home = tmp_path / "data" / "cais" / "mmlu"
    for split in ("test", "dev"):
        for subject in {row["subject"] for row in rows}:
            mine = [row for row in rows if row["subject"] == subject]
            folder = home / {"all": "all", "by subject": subject, "one folder": ""}[layout]
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{split}.jsonl").open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in mine)
    found = load_questions(spec("mmlu", data_dir=str(tmp_path / "data")))
    assert [len(questions) for questions in found.test.values()] == [4] * 5
    assert [len(questions) for questions in found.dev.values()] == [4] * 5
    assert choose_shots(spec("mmlu"), found) == (4, False)


def test_no_hub_names_what_works_without(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.delenv("LAYERSCOPE_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"--questions lm-eval-dev, or a file"):
        load_questions(spec("mmlu"))
