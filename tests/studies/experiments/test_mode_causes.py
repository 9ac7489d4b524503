"""Causes of modes where the cause is known; and the study from prompts to findings on a tiny model."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from layerscope.errors import UserError
from layerscope.results.tables import PROMPTS
from layerscope.statistics.modes import assign_modes
from layerscope.studies.estimates import Estimate
from layerscope.studies.experiments import mode_causes, modes
from layerscope.studies.experiments.causes.candidates import CANDIDATES, candidate_table, reasons_without
from layerscope.studies.experiments.causes.descriptions import DESCRIPTIONS, Describe, Descriptions
from layerscope.studies.experiments.causes.questions import (
    CHANGED,
    DIFFER,
    ENTROPY,
    JOINTLY,
    ORDER,
    REMAIN,
    adjusted_within,
    ask,
)
from layerscope.studies.experiments.causes.shown import cut, draw_forest, example_notes, explained_words, split_words
from layerscope.studies.findings import Test, judge
from layerscope.studies.jobs import Measure, Results
from layerscope.studies.study import run_study

N, LAYER = 400, 2
IDS = tuple(f"p{row}" for row in range(N))


def described(rng, **given):
    """Descriptions of unrelated prompts, but for the columns given."""
    columns = {
        "prompt_id": list(IDS),
        "text": [f"text {row}" for row in range(N)],
        "first_token": ["The"] * N,
        "tokens": np.exp(rng.normal(4, 0.3, N)).round(),
        "characters": np.exp(rng.normal(6, 0.3, N)).round(),
        "lexical_diversity": rng.uniform(0.7, 1, N),
        "readability": rng.normal(12, 3, N),
        "loss": rng.normal(3, 0.3, N),
        "rare_tokens": rng.uniform(0, 0.3, N),
        "overlap": rng.uniform(0, 3, N),
        "language": np.where(rng.random(N) < 0.8, "en", "de"),
        "bos": [False] * N,
        "first_kind": rng.choice(["capital", "lower", "digit", "other"], N),
        "first_frequency": rng.normal(-6, 1, N),
    } | given
    return Descriptions(pl.DataFrame(columns, schema=DESCRIPTIONS), {}, ("a note",))


def rows(values, metric="prompt_entropy", variant="paper", positions="all", normalization="none", tokens=None):
    fixed = {"alpha": 1.0, "readout": modes.READOUT, "note": "", "layer": LAYER, "metric": metric}
    table = {name: [value] * N for name, value in fixed.items()} | {
        "prompt_id": list(IDS),
        "variant": [variant] * N,
        "positions": [positions] * N,
        "normalization": [normalization] * N,
        "n_tokens": [20] * N if tokens is None else tokens,
        "value": values,
    }
    return pl.DataFrame(table, schema=PROMPTS)


def run_of(entropy, otherwise, norm_ratio, sinks):
    """What the studies read of a run: entropy measured in every way, and norms."""
    parts = [rows(entropy)]
    for positions in modes.POSITIONS:
        for variant in modes.VARIANTS:
            if (variant, positions) != ("paper", "all"):
                parts.append(rows(otherwise, variant=variant, positions=positions))
    parts.append(rows(entropy / 3, normalization="logN"))
    parts.append(rows(norm_ratio, "norm_ratio", normalization="none"))
    parts.append(rows(np.ones(N), "norm_ratio", positions="no-sink", tokens=20 - sinks))
    resolved = SimpleNamespace(n_layers=3, n_prompts=N)
    return SimpleNamespace(prompts=pl.concat(parts), record=SimpleNamespace(resolved=resolved))


def spec(**given):
    return mode_causes.STUDY.spec("small", {"models": ("m",), **given})


def massive(seed=0):
    """A massive token in half of the prompts lowers their entropy by far; without it nothing of the modes is left."""
    rng = np.random.default_rng(seed)
    sink = rng.random(N) < 0.5
    noise = rng.normal(0, 0.3, N)
    norm_ratio = np.where(sink, np.exp(rng.normal(4, 0.3, N)), np.exp(rng.normal(0.5, 0.2, N)))
    return run_of(3 - 2 * sink + noise, 3 + noise, norm_ratio, sink.astype(int)), described(rng), sink


@pytest.fixture(scope="module")
def found():
    run, about, sink = massive()
    case, sentence = mode_causes.make_case("m", run, about, spec())
    return case, sentence, ask(case, run, None, 0), sink, about


def verdicts(tests, claim):
    return {finding.about: finding for finding in judge(tests) if finding.claim_id == claim.id}


def test_the_modes_are_split_where_they_part(found):
    case, sentence, _, sink, _ = found
    assert (case.label == ~sink).mean() > 0.99
    assert "m: two modes at layer 2" in sentence
    assert f"{int((case.label == 0).sum())} prompts below" in sentence


def test_the_one_cause_is_found_and_no_other(found):
    _, _, seen, _, _ = found
    differ = verdicts(seen[0], DIFFER)
    holds = {about for about, finding in differ.items() if finding.verdict == "holds"}
    assert holds == {
        "a massive token (norm ratio > 10) (more in the low mode), m, layer 2",
        "number of massive tokens (more in the low mode), m, layer 2",
        "log max / median token norm (more in the low mode), m, layer 2",
    }
    remain = verdicts(seen[0], REMAIN)
    for about, finding in remain.items():
        if any(words in about for words in ("massive", "token norm", "all of them")):
            assert finding.verdict == "does not hold", about
        elif "BOS" not in about:
            assert finding.verdict == "holds", about
    assert len(remain) == len(CANDIDATES) + 1
    assert verdicts(seen[0], ENTROPY)["log number of tokens, m, layer 2"].verdict == "cannot be told"
    jointly = verdicts(seen[0], JOINTLY)
    assert {about for about, finding in jointly.items() if finding.verdict == "holds"} <= {
        "a massive token (norm ratio > 10) (towards the low mode), m, layer 2",
        "log max / median token norm (towards the low mode), m, layer 2",
    }


def test_the_modes_go_when_they_are_measured_without_their_cause(found):
    _, _, seen, _, _ = found
    changed = verdicts(seen[0], CHANGED)
    assert changed["divided by log T, m, layer 2"].verdict == "holds"
    for name in ("no-first", "no-sink", "centered", "unit", "centered-unit no-sink"):
        assert changed[f"{name}, m, layer 2"].verdict == "does not hold", name
    equal = changed["first 64 tokens of every prompt, m, layer 2"]
    assert equal.verdict == "cannot be told"
    assert equal.note == "the run with prompts of one length has no result"


def test_what_no_prompt_or_every_prompt_has_is_said(found):
    _, _, seen, _, _ = found
    bos = verdicts(seen[0], DIFFER)["begins with a BOS token, m, layer 2"]
    assert (bos.verdict, bos.note) == ("cannot be told", "true of no prompt")
    about = replace(massive()[1], reasons={"loss": "it predicts no next token"})
    table = candidate_table(about, massive()[0], LAYER, IDS)
    assert reasons_without(about, table) == {"loss": "it predicts no next token", "bos": "true of no prompt"}


def test_unrelated_candidates_do_not_pass_because_other_tests_reject():
    """A page of 30 sure findings and 16 unrelated candidates: without care, half of such pages have a false one."""
    rng = np.random.default_rng(0)
    careless = careful = 0
    for _ in range(200):
        sure = [Test(REMAIN, "r", Estimate(1, 0.5, 2, 1e-6, N)) for _ in range(30)]
        null = [Test(DIFFER, "d", Estimate(0.2, 0.1, 0.3, p, N)) for p in rng.random(16)]
        careless += any(one.verdict == "holds" for one in judge([*sure, *null]) if one.claim_id == DIFFER.id)
        adjusted = judge(adjusted_within([*sure, *null]))
        careful += any(one.verdict == "holds" for one in adjusted if one.claim_id == DIFFER.id)
    assert careless / 200 > 0.3
    assert careful / 200 <= 0.08


def test_one_mode_is_said_and_what_goes_with_the_entropy_is_shown():
    rng = np.random.default_rng(7)
    tokens = np.exp(rng.normal(4, 0.3, N)).round()
    entropy = np.log(tokens) + rng.normal(0, 0.05, N)
    run = run_of(entropy, entropy, np.full(N, 3.0), np.zeros(N, dtype=int))
    case, sentence = mode_causes.make_case("m", run, described(rng, tokens=tokens), spec())
    assert case.label is None
    assert "one mode is not rejected at layer 2" in sentence
    assert "There are no two modes to explain" in sentence
    seen = ask(case, run, None, 0)
    for claim in ORDER[:-1]:
        (finding,) = verdicts(seen[0], claim).values()
        assert finding.verdict == "cannot be told"
        assert "one mode is not rejected" in finding.note
    share = verdicts(seen[0], ENTROPY)["log number of tokens, m, layer 2"]
    assert share.verdict == "holds"
    assert share.value == pytest.approx(0.09 / (0.09 + 0.0025), abs=0.01)
    assert "log number of tokens 97%" in explained_words(case, seen[1]["without"])


def test_a_layer_can_be_named(found):
    run, about, _ = massive()
    assert mode_causes.make_case("m", run, about, spec(layer=2))[0].layer == 2
    case, sentence = mode_causes.make_case("m", run, about, spec(layer=9))
    assert case is None
    assert sentence == "m has no layer 9: it has layers 0 to 3."


def test_the_figure_shows_every_candidate_with_its_interval(found):
    case, _, seen, _, _ = found
    figure, data = draw_forest(case, seen[1])
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [one.words for one in CANDIDATES]
    for axes, panel in zip(figure.axes, data["panel"].unique(maintain_order=True), strict=True):
        shown = data.filter(pl.col("panel") == panel, pl.col("value").is_not_null())
        # The line at 0, and a bar and a point for each value.
        assert len(axes.lines) == 1 + 2 * len(shown)
        assert [text.get_text().strip() for text in axes.texts] == ["true of no prompt"]
    delta = data.filter(pl.col("name") == "log max / median token norm").row(0, named=True)
    assert delta["value"] < -0.95
    assert delta["low"] <= delta["value"] <= delta["high"] < 0
    assert delta["marked"]


def test_examples_and_agreement_stand_in_words(found):
    case, _, seen, _, about = found
    notes = example_notes(case, about.table)
    assert len(notes) == 8
    assert sum("low-entropy mode" in note for note in notes) == 4
    (agreement,) = split_words(case, seen[1]["splits"])
    assert "no-sink none (Cliff's delta between the first modes" in agreement
    assert "divided by log T 1.00" in agreement


def test_prompts_of_unknown_origin_are_a_short_line():
    shown = cut("a\n\n# b | c " + "z" * 300)
    assert shown.startswith("a # b | c z")
    assert len(shown) == 160
    assert shown.endswith("…")


def test_too_few_prompts_are_said_before_anything_is_measured():
    with pytest.raises(UserError, match="too few prompts for a dip test: expected --n of at least 200, got 50"):
        mode_causes.STUDY.jobs(spec(models=("smollm2-135m",), n=50))


def test_the_grid_shares_the_run_of_modes():
    asked = spec(models=("smollm2-135m",))
    run, prompts, equal = mode_causes.STUDY.jobs(asked)
    (other,) = modes.STUDY.jobs(modes.STUDY.spec("small", {"models": ("smollm2-135m",)}))
    assert run.identity == other.identity
    assert isinstance(prompts, Describe)
    assert prompts.texts == run.spec.texts
    assert isinstance(equal, Measure)
    assert (equal.spec.texts.min_tokens, equal.spec.texts.context) == (64, 64)


@pytest.mark.slow
def test_from_prompts_to_findings(family_folder, tmp_path):
    """Two lengths make two modes in a random model: found, put down to length, and gone without it."""
    rng = np.random.default_rng(0)
    texts = tmp_path / "texts.txt"
    lengths = np.where(rng.random(260) < 0.5, rng.integers(4, 7, 260), rng.integers(30, 50, 260))
    texts.write_text("\n".join(" ".join(f"w{t}" for t in rng.integers(4, 96, k)) for k in lengths) + "\n")
    model = str(family_folder("llama"))
    given = {"models": (model,), "texts": str(texts), "n": 260, "context": 60, "dtype": "float32"}
    done = run_study(mode_causes.STUDY, mode_causes.STUDY.spec("small", given), tmp_path / "out")
    # No prompt has 64 tokens.
    assert list(done.missing) == [f"{model} at 64 tokens"]
    findings = json.loads((done.path / "findings.json").read_text())["findings"]
    by = {(one["claim_id"], one["about"].partition(",")[0]): one for one in findings}
    length = by["modes-differ", "log number of tokens (more in the high mode)"]
    assert length["verdict"] == "holds"
    assert float(length["value"]) > 0.9
    assert by["modes-remain-without-cause", "without log number of tokens"]["verdict"] != "holds"
    assert "holds no next-token head" in by["modes-differ", "log perplexity under the model"]["note"]
    page = (done.path / "findings.md").read_text()
    assert "prompt of the low-entropy mode" in page
    assert all(path.stat().st_size > 1000 for path in done.figures)
    # The shared run is not measured again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/layers.parquet")}
    also = run_study(modes.STUDY, modes.STUDY.spec("small", given), tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/layers.parquet")}
    bimodal = next(one for one in also.findings if one.claim_id == "bimodal")
    assert bimodal.verdict == "holds"


def test_without_a_run_there_is_nothing_to_say():
    results = Results({}, {"m": "no such model"})
    outcome = mode_causes.STUDY.analyse(spec(), results)
    assert list(outcome.tests) == []
    assert assign_modes(np.array([1.0, 3.0]), 2.0).tolist() == [0, 1]
