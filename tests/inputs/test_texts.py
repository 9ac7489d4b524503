"""Text sources: what each gives, what it leaves out, and what it says when it cannot."""

import os
import tracemalloc

import polars as pl
import pytest

from layerscope.config import TextSpec
from layerscope.errors import UserError
from layerscope.inputs import hub, texts
from layerscope.inputs.texts import KNOWN_TEXTS, is_heading, load_texts
from layerscope.inputs.wiki import WikiLead

WIKITEXT = [
    " \n",
    " = Robert Boulter = \n",
    " Robert Boulter is an English film actor . \n",
    " = = Career = = \n",
    "",
    " The sign = means equality . \n",
    " = \n",
]


@pytest.fixture(autouse=True)
def _no_data_dir(monkeypatch):
    monkeypatch.delenv(hub.DATA_DIR, raising=False)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write


def load(source, **options):
    return load_texts(TextSpec(source=source, **options))


def jsonl(*rows):
    import json

    return "".join(json.dumps(row) + "\n" for row in rows)


def test_known_texts_are_the_three_of_the_design_and_say_where_they_come_from():
    assert sorted(KNOWN_TEXTS) == ["ai-medical", "wiki", "wikitext"]
    assert all(text.description for text in KNOWN_TEXTS.values())
    places = {name: text.hub and text.hub.path for name, text in KNOWN_TEXTS.items()}
    assert places == {"wiki": None, "wikitext": "Salesforce/wikitext", "ai-medical": "ruslanmv/ai-medical-dataset"}


def test_wiki_gives_a_lead_a_prompt_with_its_topic(monkeypatch):
    leads = (WikiLead("A", "first", "Arts", "thing"), WikiLead("D", "last", ""))
    monkeypatch.setattr(texts.wiki, "load_wiki", lambda: leads)
    monkeypatch.setattr(texts.wiki, "wiki_revision", lambda: "0.0.7 sha256:0")
    loaded = load("wiki")
    assert loaded.texts == (texts.Text("A", "first", "Arts"), texts.Text("D", "last", ""))
    assert loaded.revision == "0.0.7 sha256:0"
    assert loaded.default_min_tokens == 0


def test_a_local_file_gives_its_rows_and_names_what_it_skips(write):
    path = write(
        "a.jsonl",
        jsonl(
            {"text": "a"}, {"text": ""}, {"text": None}, {"text": 3}, {"other": 1}, {"text": " \n"}, {"text": "\ud800"}
        ),
    )
    loaded = load(path)
    assert [text.id for text in loaded.texts] == ["line-1"]
    assert dict(loaded.skipped) == {
        "line-2": "is empty",
        "line-3": "holds nothing (null, or the column is missing in this row)",
        "line-4": "holds int '3', not text",
        "line-5": "holds nothing (null, or the column is missing in this row)",
        "line-6": "is only white space",
        "line-7": "holds half a surrogate pair, which is not a character",
    }
    assert loaded.source == path
    assert loaded.revision.startswith("sha256:")


def test_a_text_is_left_as_it_is_but_for_its_line_end(write):
    assert [text.text for text in load(write("a.txt", "  a b \nc\n")).texts] == ["  a b ", "c"]


def test_labels_come_from_label_text_else_label(write):
    both = load(write("a.jsonl", jsonl({"body": "a", "label": 3}, {"body": "b", "label": None})), column="body")
    assert [text.label for text in both.texts] == ["3", ""]
    named = load(write("b.jsonl", jsonl({"text": "a", "label": 3, "label_text": "cat"})))
    assert [text.label for text in named.texts] == ["cat"]
    itself = load(write("c.jsonl", jsonl({"label": "a"})))
    assert [(text.text, text.label) for text in itself.texts] == [("a", "")]


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        (" = Title = \n", True),
        (" = = = Deep = = = \n", True),
        ("=", True),
        (" a = b \n", False),
        (" = not closed \n", False),
        (" not opened = \n", False),
        ("", False),
    ],
)
def test_headings_are_what_the_authors_code_calls_headings(line, heading):
    assert is_heading(line) is heading


def test_wikitext_leaves_out_headings_and_empty_lines_and_counts_them(write, tmp_path):
    rows = jsonl(*({"text": line} for line in WIKITEXT), {"text": None})
    write("Salesforce/wikitext/wikitext-103-v1/train.jsonl", rows)
    loaded = load("wikitext", data_dir=str(tmp_path))
    assert [text.id for text in loaded.texts] == ["line-3", "line-6"]
    assert loaded.texts[0].text == WIKITEXT[2]
    assert loaded.counts == {"headings": 3, "empty": 2}
    assert [row for row, _ in loaded.skipped] == ["line-8"]
    assert loaded.default_min_tokens == 30
    assert loaded.filters == ("no headings (= ... =)", "no empty lines")
    assert loaded.revision.startswith("Salesforce/wikitext data_dir sha256:")


def test_a_plain_text_file_can_stand_in_for_wikitext(write, tmp_path):
    write("Salesforce/wikitext/train.txt", "".join(line if line.endswith("\n") else line + "\n" for line in WIKITEXT))
    assert [text.id for text in load("wikitext", data_dir=str(tmp_path)).texts] == ["line-3", "line-6"]


def test_only_the_first_rows_of_a_large_named_data_set_are_read_and_that_is_a_filter(write, tmp_path):
    write("Salesforce/wikitext/train.txt", "a text\n" * 25_001)
    loaded = load("wikitext", data_dir=str(tmp_path))
    assert len(loaded.texts) == 25_000
    assert loaded.filters[0] == "first 25,000 rows"


def test_ai_medical_puts_question_and_context_into_the_papers_template(write, tmp_path):
    rows = jsonl(
        {"question": "What is {it}?", "context": "A thing."},
        {"question": "", "context": "x"},
        {"question": 3, "context": None},
    )
    write("ruslanmv/ai-medical-dataset/train.jsonl", rows)
    loaded = load("ai-medical", data_dir=str(tmp_path))
    (text,) = loaded.texts
    assert text.text.startswith("You are an AI Medical Assistant Chatbot, trained to answer medical questions. ")
    assert text.text.endswith("\n\n### Instruction:\nWhat is {it}?\n\n\n### Response:\nA thing.")
    assert loaded.skipped[0] == ("line-2", "question is empty")
    assert loaded.skipped[1][1].startswith("question holds int '3', not text; context holds nothing")


def test_a_hub_name_reads_its_stand_in(write, tmp_path):
    write("org/name/test.jsonl", jsonl({"title": "t", "body": "b", "label": "x"}))
    named = load("hub:org/name::test:body", data_dir=str(tmp_path))
    chosen = load("hub:org/name", column="body", data_dir=str(tmp_path))
    assert list(named.texts) == list(chosen.texts) == [texts.Text("line-1", "b", "x")]
    assert named.source == "hub:org/name::test:body"
    with pytest.raises(UserError, match=r"two columns were given, 'body' in .* and 'title': give one"):
        load("hub:org/name::test:body", column="title", data_dir=str(tmp_path))


def test_a_row_limit_that_was_met_is_a_filter(write, tmp_path, monkeypatch):
    write("org/name/train.txt", "a\nb\nc\n")
    monkeypatch.setattr(hub, "MOST_ROWS", 2)
    loaded = load("hub:org/name", data_dir=str(tmp_path))
    assert [text.text for text in loaded.texts] == ["a", "b"]
    assert loaded.filters == ("first 2 rows",)


def test_random_prompts_need_no_texts():
    loaded = load("none.txt", perturbation="random:8")
    assert loaded.texts == ()
    assert loaded.source == "random"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("wikitxt", {}, "unknown texts 'wikitxt': did you mean 'wikitext'"),
        ("none.txt", {}, r"none\.txt does not exist: check the path"),
        ("a.docx", {}, r"'a\.docx': expected a file that ends in \.txt, \.jsonl, \.csv, \.parquet, a name of"),
        ("org/name", {}, "or hub:org/name"),
        ("wiki", {"column": "text"}, "texts 'wiki' have one fixed text, so leave out the column 'text'"),
        ("ai-medical", {"column": "text"}, "texts 'ai-medical' have one fixed text"),
        ("wiki", {"perturbation": "rndom:3"}, "unknown perturbation 'rndom'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(source, options, message):
    with pytest.raises(UserError, match=message):
        load(source, **options)


def test_a_folder_is_no_source(tmp_path):
    with pytest.raises(UserError, match="expected a file that ends in"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["pipe.txt", "pipe.jsonl", "pipe.csv", "pipe.parquet"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="is no regular file: expected a file"):
        load(str(tmp_path / name))


@pytest.mark.parametrize("source", [f"{'x' * 300}.txt", f"{'x' * 300}/a.csv", "a\0b.jsonl", "x" * 5000])
def test_a_name_that_no_file_can_have_is_refused_with_the_reason(source):
    with pytest.raises(UserError, match=r"(?s)name too long|null byte|unknown texts"):
        load(source)


def test_a_file_that_changes_after_it_was_looked_through_is_refused_when_it_is_read_again(write):
    path = write("a.txt", "one\ntwo\n")
    loaded = load(path)
    write("a.txt", "ten\nsix and more\n")
    with pytest.raises(UserError, match=r"a\.txt' changed while they were read"):
        loaded.take([1])


def test_texts_are_read_from_their_places_in_any_order(write):
    path = write("a.csv", 'id,text,label\r\n1,"a\nb, ""c""",x\r\n\r\n2,d\u00e9,\r3,,z\n4,f,w')
    stored = load(path)
    assert stored.take([2, 0, 1, 0]) == [
        texts.Text("row-4", "f", "w"),
        texts.Text("row-1", 'a\nb, "c"', "x"),
        texts.Text("row-2", "d\u00e9"),
        texts.Text("row-1", 'a\nb, "c"', "x"),
    ]
    assert list(stored.texts) == stored.take([0, 1, 2])
    assert list(stored.ids()) == ["row-1", "row-2", "row-4"]
    assert stored.texts[-1].text == "f"
    assert stored.skipped == (("row-3", "is empty"),)


def test_parquet_texts_are_read_from_their_row_groups(tmp_path):
    frame = pl.DataFrame({"id": range(10_000), "text": [None if n % 7 == 0 else f"text {n}" for n in range(10_000)]})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=900)
    stored = load(str(tmp_path / "a.parquet"))
    kept = [n for n in range(10_000) if n % 7]
    assert [text.text for text in stored.texts] == [f"text {n}" for n in kept]
    places = [8000, 3, 4500, 4501, 0]
    assert [text.id for text in stored.take(places)] == [f"row-{kept[place] + 1}" for place in places]
    assert [text.text for text in stored.take(places)] == [f"text {kept[place]}" for place in places]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_large_file_is_not_held_in_memory(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    line = "x" * 990
    rows = {"txt": line, "jsonl": f'{{"text": "{line}"}}', "csv": line}
    path.write_text("text\n" * (kind == "csv") + f"{rows[kind]}\n" * 4_000)
    tracemalloc.start()
    try:
        stored = load(str(path))
        assert len(stored.take([3_000, 3])) == 2
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
