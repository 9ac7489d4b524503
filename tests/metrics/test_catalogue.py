import importlib
import inspect
import math
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from tests.metrics.inputs import elsewhere, leave_out, normal, ragged

from layerscope import metrics
from layerscope.metrics.catalogue import METRICS, settings
from layerscope.metrics.metric import Metric, Setting, unit_of
from layerscope.metrics.sources import PooledVectors, TokenStates, ViewOptions, ViewVectors
from layerscope.tasks.process import threads

SUBSETS = [torch.arange(24), *leave_out(24, 3)]
OPTIONS = ViewOptions(temperature=0.2, permutations=11, seed=4)


def token_source(precision="float32"):
    batch, lengths, alone = ragged([9, 6, 5], 7)
    attentions = normal(3, 2, 9, 9).softmax(-1)
    return TokenStates(batch, lengths, precision=precision, attentions=attentions), alone


def pooled_vectors():
    return normal(24, 30, dtype=torch.float32) + 1


def view_vectors():
    return (normal(24, 1, 30) + 0.4 * normal(24, 4, 30, seed=2)).float()


def source_of(metric):
    if metric.shape == "tokens dim":
        return token_source()[0]
    if metric.shape == "prompts dim":
        return PooledVectors(pooled_vectors(), SUBSETS)
    return ViewVectors(view_vectors(), SUBSETS, OPTIONS)


def rows():
    alphas, normalizations = (0.5, 1.0, 2.0), ("none", "max")
    return [(m, s) for m in METRICS.values() for s in settings(m, ("all",), alphas, normalizations)]


ROWS = rows()
IDS = [f"{m.name}-{s.variant}-{s.alpha}-{s.normalization}" for m, s in ROWS]

# Tables hold their rows in this order; what is new stands where it belongs among them.
ORDER = [
    *("prompt_entropy", "logdet_entropy", "effective_rank", "curvature", "curvature_skipped_steps"),
    *("norm_ratio", "first_token_norm", "top_share", "sink_rate"),
    *("dataset_entropy", "dataset_effective_rank", "rankme", "alpha_req", "anisotropy"),
    *("infonce", "infonce_bound", "infonce_chance", "dime", "dime_standard_error", "lidar", "lidar_rank"),
]


def test_the_order_of_the_catalogue_stays():
    assert [name for name in METRICS if name in ORDER] == ORDER


def test_every_metric_of_the_room_is_in_the_catalogue():
    rooms = [
        importlib.import_module(found.name) for found in pkgutil.iter_modules(metrics.__path__, "layerscope.metrics.")
    ]
    made = {one.name: one for room in rooms for one in vars(room).values() if isinstance(one, Metric)}
    assert made == METRICS


def bounds(text, rows, dim):
    """The ends of a range as it is printed, for so many tokens or prompts; infinite where it names none."""
    named = {"N": rows, "T": rows, "D": dim, "log": math.log, "min": min, "inf": math.inf, "pi": math.pi}
    found = re.match(r"[\[(]((?:[^(),]|\([^)]*\))*), (.*)[])]", text.partition(";")[0].replace("2N", "2 * N"))
    ends = [re.sub(r"log (min\(.*\)|\w+)", r"log(\1)", end) for end in found.groups()] if found else ["-inf", "inf"]
    return [eval(end, {}, named) for end in ends]


@pytest.mark.arithmetic
@pytest.mark.parametrize(("metric", "setting"), ROWS, ids=IDS)
def test_a_row_of_the_catalogue_is_a_finite_number_of_its_range(metric, setting):
    found = metric.values(source_of(metric), setting)
    assert found.dtype == torch.float64
    assert found.shape == ((3,) if metric.shape == "tokens dim" else (len(SUBSETS),))
    assert found.isfinite().all()
    text = "[0, 1]" if setting.normalization == "max" else metric.range
    dim = 7 if metric.shape == "tokens dim" else 30
    for value, rows in zip(found.tolist(), [9, 6, 5] if dim == 7 else map(len, SUBSETS), strict=True):
        low, high = bounds(text, rows, dim)
        assert low - 1e-9 <= value <= high + 1e-9 + 1e-5 * (metric.name == "rankme")  # RankMe's epsilon


def test_a_file_has_one_door_to_each_of_its_metrics():
    """The function in the catalogue is the public one that a caller writes: it stands in the file of the metric."""
    for metric in METRICS.values():
        module = importlib.import_module(metric.values.__module__)
        assert getattr(module, metric.values.__name__) is metric.values
        assert not metric.values.__name__.startswith("_")
        assert list(inspect.signature(metric.values).parameters.values())[1].default == Setting()


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_variant_that_a_metric_with_variants_lacks_is_refused(metric):
    if len(metric.variants) > 1:
        with pytest.raises(ValueError, match=r"expected .*variant.* got 'centred'"):
            metric.values(source_of(metric), Setting("centred"))


def bits(source, shape):
    """The values of every row of the catalogue, and NaN as a number that is equal to itself."""
    rows = [(m, s) for m in METRICS.values() for s in settings(m, ("all",), (0.5, 1.0, 1.5, 2.0, math.inf), ("none",))]
    return {
        (metric.name, setting): metric.values(source, setting).nan_to_num(-7.0).tolist()
        for metric, setting in rows
        if metric.shape == shape
    }


# Sums of few and of many numbers, prompts longer and shorter than wide, and a width that no vector register divides.
@pytest.mark.arithmetic
@pytest.mark.parametrize(
    ("lengths", "dim"), [([130, 100, 37, 1, 9], 96), ([300, 128, 77], 64), ([109, 60], 577), ([9, 6, 5], 7)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_prompt_has_the_same_bits_alone_in_any_batch_at_any_place_on_any_number_of_threads(lengths, dim, dtype):
    def read(states, counts, attentions):
        return bits(TokenStates(states, counts, attentions=attentions), "tokens dim")

    scale = torch.linspace(0.1, 3, dim)
    alone = [(normal(n, dim, seed=n).float() * scale + normal(dim, seed=9).float()).to(dtype) for n in lengths]
    weights = [normal(3, n, n, seed=n).softmax(-1).float() for n in lengths]
    batch = torch.full((len(lengths), max(lengths), dim), math.nan, dtype=dtype)
    attentions = torch.full((len(lengths), 3, max(lengths), max(lengths)), math.nan)
    for row, (states, own) in enumerate(zip(alone, weights, strict=True)):
        batch[row, : len(states)] = states
        attentions[row, :, : len(states), : len(states)] = own
    with threads(1):
        expected = [read(z[None], None, own[None]) for z, own in zip(alone, weights, strict=True)]
    for number in (1, 2, 4):
        with threads(number):
            together = read(batch, torch.tensor(lengths), attentions)
            moved = read(elsewhere(batch, 3), torch.tensor(lengths), elsewhere(attentions, 1))
            lone = [read(elsewhere(z[None], 5), None, own[None]) for z, own in zip(alone, weights, strict=True)]
        for place, own in enumerate(expected):
            for key, (value,) in own.items():
                assert together[key][place] == value, (key, number)
                assert moved[key][place] == value, (key, number)
                assert lone[place][key] == [value], (key, number)


@pytest.mark.arithmetic
@pytest.mark.parametrize(("prompts", "dim"), [(24, 30), (128, 96), (60, 577), (280, 65)])
def test_vectors_have_the_same_bits_at_any_place_beside_any_subset_on_any_number_of_threads(prompts, dim):
    pooled = normal(prompts, dim, dtype=torch.float32) + 1
    views = (normal(prompts, 1, dim) + 0.4 * normal(prompts, 3, dim, seed=2)).float()
    subsets = [torch.arange(prompts), *leave_out(prompts, 3)]

    def read(pooled, views, subsets):
        found = bits(PooledVectors(pooled, subsets), "prompts dim")
        return found | bits(ViewVectors(views, subsets), "prompts views dim")

    with threads(1):
        expected = read(pooled, views, subsets)
        assert read(pooled, views, subsets[1:2]) == {key: values[1:2] for key, values in expected.items()}
    for number in (1, 2, 4):
        with threads(number):
            assert read(elsewhere(pooled, 3), elsewhere(views, 5), subsets) == expected
            assert read(elsewhere(pooled.double(), 1), elsewhere(views.double(), 3), subsets) == expected


def bad_data(metric):
    if metric.shape == "tokens dim":
        return [torch.zeros(0, 4), torch.full((5, 4), math.nan), torch.zeros(5, 4), torch.ones(1, 4), torch.ones(5, 4)]
    if metric.shape == "prompts dim":
        return [torch.full((20, 4), math.nan), torch.zeros(20, 4), torch.ones(1, 4), torch.ones(20, 4)]
    return [torch.full((20, 3, 4), math.nan), torch.zeros(20, 3, 4), torch.ones(1, 3, 4), torch.ones(20, 3, 4)]


@pytest.mark.parametrize(("metric", "setting"), ROWS, ids=IDS)
def test_a_value_is_nan_only_with_a_reason(metric, setting):
    """The reason is read where the value is NaN, so there it must not be empty."""
    for data in bad_data(metric):
        if metric.shape == "tokens dim":
            attentions = torch.full((1, 2, len(data), len(data)), math.nan)
            source = TokenStates(data[None], attentions=attentions)
        else:
            source = PooledVectors(data) if metric.shape == "prompts dim" else ViewVectors(data)
        value = metric.values(source, setting)[0]
        if value.isnan():
            assert metric.reason(data, setting)
        else:
            assert not data.isnan().any() or metric.name == "infonce_chance"


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_an_entry_says_what_a_reader_needs(metric):
    assert METRICS[metric.name] is metric
    for text in (metric.summary, metric.unit, metric.range, metric.direction, metric.paper):
        assert text
        assert not text.endswith(".")
    assert metric.variants[0] == "paper"
    low, high = bounds(metric.range, 24, 30)
    assert low < high
    assert math.isfinite(low) or math.isfinite(high) or metric.range.startswith("any real number")
    for function in (metric.values, metric.reason):
        assert inspect.getdoc(function)


def test_the_documentation_has_a_section_for_each_metric():
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in text.split("\n## ")[1:]}
    for metric in METRICS.values():
        assert f"(#{metric.name})" in text
        for field in ("**Formula**", "**Unit, range**", "**How to read it**"):
            assert field in sections[metric.name]


def test_the_documentation_of_own_tensors_holds():
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    states, lengths, _ = ragged([9, 6, 5], 7)
    given = {"states": states, "lengths": lengths, "pooled": pooled_vectors(), "views": view_vectors()}
    exec(example, given)
    calls = [line.split("#")[0] for line in example.splitlines() if re.match(r"\w+\(", line)]
    assert [len(eval(call, given)) for call in calls] == [3, 3, 1, 1]


def test_a_source_computes_a_product_and_a_spectrum_once(monkeypatch):
    from layerscope.metrics import spectrum

    products, spectra = [], []
    prepare, solve = spectrum.prepare_prompts, spectrum.prompt_spectra
    monkeypatch.setattr(spectrum, "prepare_prompts", lambda *a: products.append(a[2]) or prepare(*a))
    monkeypatch.setattr(spectrum, "prompt_spectra", lambda *a: spectra.append(a[1]) or solve(*a))
    source, _ = token_source()
    for metric in METRICS.values():
        if metric.shape == "tokens dim":
            for setting in settings(metric, ("default",), (1.0, 1.5, 2.0, math.inf), ("none", "max", "logN")):
                metric.values(source, setting)
    assert sorted(products) == ["float32", "float64"]
    assert spectra == ["paper", "paper"]


def test_precision_reaches_the_entropies():
    setting = Setting("paper", 1.0, "none")
    entropies = [METRICS["prompt_entropy"].values(token_source(p)[0], setting) for p in ("float32", "float64")]
    assert not torch.equal(*entropies)
    torch.testing.assert_close(*entropies, rtol=0, atol=2e-5)


def test_sink_rate_without_attentions_is_refused():
    with pytest.raises(ValueError, match="expected attentions for sink_rate, got states only"):
        METRICS["sink_rate"].values(TokenStates(normal(1, 3, 4)), Setting())


def test_units():
    assert unit_of(METRICS["prompt_entropy"], Setting("paper", 1.0, "none")) == "nats"
    assert unit_of(METRICS["prompt_entropy"], Setting("paper", 1.0, "max")) == "share"
    assert unit_of(METRICS["curvature"], Setting()) == "radians"
