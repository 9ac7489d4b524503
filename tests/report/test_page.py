from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest
from tests.picking.folders import peaked_scores, write_scores
from tests.picking.tables import score_table

from layerscope.errors import UserError
from layerscope.metrics.catalogue import METRICS
from layerscope.report import write_report
from layerscope.report.page import relative_link, run_names
from layerscope.results.tables import texts_table

EVIL = """</script><script>alert(1)</script><img src=x onerror="alert(2)">' " & [x](javascript:alert(3)) \u202eabc\x9b\x1b[2J"""
LOADING = {"src", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href"}


@dataclass(frozen=True)
class Described:
    summary: str = "how far tokens spread"
    unit: str = "nats"
    range: str = "[0, log T]"
    direction: str = "more directions"
    paper: str = "arXiv 2412.09563, eq. 1"


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags, self.scripts, self.words, self.inside = [], [], [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        elif self.inside != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    @property
    def points(self):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "points"))

    def of(self, tag, **wanted):
        return [attrs for name, attrs in self.tags if name == tag and wanted.items() <= attrs.items()]


@pytest.fixture
def write(tmp_path):
    def write(*runs, **given):
        return Page(write_report(runs, tmp_path / "out" / "report.html", **given))

    return write


def test_the_page_loads_nothing(make_run, write) -> None:
    page = write(make_run("a"), make_run("b", model="other", blocks=2))
    assert not {name for name, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "video", "base", "form"}
    assert not [attrs for _, attrs in page.tags if LOADING & attrs.keys()]
    assert not re.search(r"@import|url\(", page.source)
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page.source)


def test_only_its_own_script_may_run(make_run, write) -> None:
    page = write(make_run())
    (policy,) = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")
    (script,) = [text for attrs, text in page.scripts if "type" not in attrs]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy["content"]


def test_text_from_outside_is_shown_as_text_wherever_it_comes_from(make_run, write, skipped) -> None:
    hostile = make_run(
        "evil", model="m" + EVIL, ids=[f"{i}{EVIL}" for i in range(6)], warnings=(EVIL,), machine=EVIL,
        filters=(EVIL,), skipped=(skipped[0].model_copy(update={"reason": EVIL, "prompt_id": EVIL}),),
    )  # fmt: skip
    layers = hostile.layers.with_columns(
        pl.when(pl.col("layer") == 1).then(None).otherwise("value").alias("value"),
        metric=pl.lit("metric" + EVIL),
        unit=pl.col("unit") + EVIL,
        note=pl.lit(EVIL),
        readout=pl.col("metric"),
    )
    texts = texts_table((f"{i}{EVIL}", "text" + EVIL, "note" + EVIL) for i in range(6))
    hostile = type(hostile)(hostile.path, hostile.record, layers, hostile.prompts, texts)
    described = {"metric" + EVIL: Described(*[EVIL] * 5)}
    page = write(hostile, metrics=described)
    calm = write(make_run())
    assert len(page.scripts) == len(calm.scripts) == 2
    assert page.scripts[1] == calm.scripts[1]
    assert not page.of("img")
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert not [attrs for attrs in page.of("a") if attrs["href"].split("#")[0].startswith("javascript")]
    plain = " ".join(EVIL.split()).replace("\u202e", "\\u202e").replace("\x9b", "\\x9b").replace("\x1b", "\\x1b")
    assert f"text{plain}" in page.text
    assert page.text.count(plain) > 12
    assert plain in " ".join(page.points[0][0]["text"])


def test_data_in_the_page_has_no_character_that_ends_a_script(make_run, write) -> None:
    run = make_run()
    layers = run.layers.with_columns(value=pl.lit(None, dtype=pl.Float64), note=pl.lit("</script>\u2028<!--"))
    page = write(type(run)(run.path, run.record, layers, run.prompts))
    raw = re.search(r'id="points">(.*?)</script>', page.source, re.DOTALL).group(1)
    assert not set("<>&'\u2028") & set(raw)
    assert page.points[0][0]["text"][0] == "no value: </script>\\u2028<!--"


def test_every_metric_has_a_chart_with_its_unit_and_every_layer_its_value_and_interval(make_run, write) -> None:
    page = write(make_run())
    assert len(page.of("figure")) == 3
    assert "Prompt entropy (nats)" in page.text
    assert "Curvature (rad)" in page.text
    line = page.points[0][0]
    assert line["layer"] == [0, 1, 2, 3, 4]
    assert line["text"][2] == "3.0 [2.5, 3.5]"


def test_runs_of_different_depth_are_drawn_over_each_other_against_depth(make_run, write) -> None:
    page = write(make_run("a"), make_run("b", model="other", blocks=2))
    assert [len(lines) for lines in page.points] == [2, 2, 2]
    deep, shallow = page.points[0]
    assert [deep["x"][i] for i in (0, 2, 4)] == shallow["x"]
    assert "depth (layer / number of layers)" in page.text


def test_two_runs_of_one_model_are_told_apart_by_their_folders(make_run, write) -> None:
    page = write(make_run("a"), make_run("b"))
    assert "tiny · a" in page.text
    assert "tiny · b" in page.text


def test_pooled_metrics_over_different_numbers_of_prompts_are_not_drawn_over_each_other(make_run, write) -> None:
    page = write(make_run("a"), make_run("b", model="other", n_prompts=12))
    assert [len(lines) for lines in page.points] == [2, 2, 1, 1]
    assert page.text.count("this metric depends on the number of prompts") == 2


def test_a_missing_value_is_a_gap_and_is_said(make_run, write) -> None:
    run = make_run()
    layers = run.layers.with_columns(
        value=pl.when(pl.col("layer") == 2).then(math.nan).otherwise("value"), note=pl.lit("one token")
    )
    page = write(type(run)(run.path, run.record, layers, run.prompts))
    assert page.points[0][0]["y"][2] is None
    assert page.points[0][0]["text"][2] == "no value: one token"
    assert page.text.count("no value at layer 2: one token") == 3
    assert page.of("path", **{"class": "line c0 d0"})[0]["d"].count("M") == 2
    assert not re.search(r"\bnan\b", page.source, re.IGNORECASE)


def test_rows_in_which_runs_differ_are_bold(make_run, write) -> None:
    page = write(make_run("a"), make_run("b", model="Tiny"))
    rows = [row.split("</th>")[0].split(">")[-1] for row in page.source.split('<tr class="differs">')[1:]]
    assert rows == ["model"]


def test_run_facts_warnings_and_skipped_prompts_are_there(make_run, write, skipped) -> None:
    run = make_run(warnings=("de-quantised weights",), skipped=skipped, counts={"too_short": 2}, machine="2 cores")
    page = write(run)
    for words in (
        "de-quantised weights", "3 prompts left out: 2 × too short; 1 × empty", "4 layers × 8 dimensions",
        "float32 on cpu", "torch 2.13.0", "1 min 12 s", "mean 12, 10 to 15", "sha256:01234567", "too short 2",
        "2 cores",
    ):  # fmt: skip
        assert words in page.text


def test_a_warning_of_all_runs_is_said_once_and_of_one_run_with_its_name(make_run, write) -> None:
    page = write(make_run("a", warnings=("both", "only one")), make_run("b", warnings=("both",)))
    listed = re.search(r"Warnings (.*?) At a glance", page.text).group(1)
    assert listed == "both a: only one"


def test_metrics_are_described_and_an_unknown_one_says_so(make_run, write) -> None:
    page = write(make_run(), metrics={"prompt_entropy": Described()})
    for words in ("How far tokens spread.", "[0, log T]", "more directions", "arXiv 2412.09563, eq. 1"):
        assert words in page.text
    assert page.text.count("not described by this version") == 2


def test_metrics_are_described_by_the_catalogue_where_nothing_else_is_given(make_run, write) -> None:
    page = write(make_run())
    for name in ("prompt_entropy", "curvature", "rankme"):
        assert METRICS[name].range in page.text
        assert METRICS[name].direction in page.text
    assert "not described" not in page.text


def test_examples_show_their_texts_where_they_are_known(make_run, write) -> None:
    texts = texts_table([("p0", "the lowest one", "cut from 900 to 10 tokens"), ("p5", "x" * 500, "")])
    known = write(make_run(texts=texts))
    assert "the lowest one" in known.text
    assert "p0, cut from 900 to 10 tokens" in known.text
    assert "x" * 400 in known.text
    assert "x" * 401 not in known.text
    assert "keeps no texts" not in known.text
    assert "This run keeps no texts (it was measured by version 0.1.0)" in write(make_run()).text


def test_links_lead_to_the_runs_files(make_run, write, tmp_path) -> None:
    run = make_run("with space & #")
    page = write(run)
    links = [attrs["href"] for attrs in page.of("a") if "download" in attrs]
    found = [(tmp_path / "out" / unquote(link)).resolve() for link in links]
    assert found == [run.path / name for name in ("run.json", "layers.parquet", "prompts.parquet")]


def test_every_link_inside_the_page_has_its_place(make_run, write) -> None:
    page = write(make_run("a"), make_run("b", model="other", blocks=2, n_prompts=12))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert {attrs["href"][1:] for attrs in page.of("a") if attrs["href"].startswith("#")} <= set(ids)


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_run_of_one_layer_has_a_page(make_run, write, blocks) -> None:
    page = write(make_run(blocks=blocks))
    assert len(page.points[0][0]["layer"]) == blocks + 1


def test_a_run_without_rows_has_a_page(make_run, write) -> None:
    run = make_run()
    page = write(type(run)(run.path, run.record, run.layers.clear(), run.prompts.clear()))
    assert page.points == []
    assert "These runs hold no values" in page.text


def test_the_page_is_the_same_every_time_and_no_temporary_file_stays(make_run, write, tmp_path) -> None:
    assert write(make_run()).source == write(make_run()).source
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_no_runs_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="at least one run"):
        write_report([], tmp_path / "report.html")


def test_run_names_are_the_shortest_that_differ() -> None:
    assert run_names([Path("/x/a/run"), Path("/x/b/run")]) == ["a/run", "b/run"]
    assert run_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert run_names([Path("/x/a"), Path("/x/a")]) == ["a (1)", "a (2)"]


def test_a_folders_name_never_becomes_an_address(tmp_path) -> None:
    assert relative_link(tmp_path / "javascript:alert(1)", tmp_path) == "./javascript%3Aalert%281%29"


def test_scores_have_a_curve_a_task_and_the_layer_to_use(make_run, write) -> None:
    run = make_run()
    write_scores(run.path, peaked_scores(6))
    page = write(run)
    assert "Use layer 2: it has the highest average of 6 tasks" in page.text
    assert len(page.of("figure", id="scores-0-0")) == 1
    assert page.of("a", href="#scores")
    first = page.points[0]
    assert len(first) == 7
    assert first[0]["text"][2].startswith("0.9")
    (mark,) = page.of("line", **{"class": "mark"})
    assert float(mark["x1"]) == first[0]["x"][2]
    # Charts of metrics end at layer 4 and those of scores at 11: one axis for all.
    assert page.points[1][0]["x"] == first[0]["x"][:5]


def test_without_scores_there_is_no_such_section(make_run, write) -> None:
    page = write(make_run())
    assert not page.of("section", id="scores")
    assert not page.of("a", href="#scores")


def test_names_of_tasks_are_escaped(make_run, write) -> None:
    run = make_run()
    write_scores(run.path, score_table([[0.1, 0.2], [0.2, 0.3]], tasks=[EVIL, "other"]))
    page = write(run)
    assert "alert(2)" in page.text
    assert not page.of("img")
    assert len(page.scripts) == 2
