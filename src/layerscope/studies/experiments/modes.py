"""Do prompts fall into two groups by their entropy, at which layer, and in which kind of model (figure 4)?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from layerscope.config import RunSpec
from layerscope.errors import UserError
from layerscope.figures.curves import short_name
from layerscope.figures.facets import FACETS, FacetLook, plot_facets
from layerscope.figures.ridges import RIDGES, plot_ridges
from layerscope.results.run import Run
from layerscope.statistics.dips import DISTANCE, HALVES, critical_dip, weigh_dip
from layerscope.statistics.intervals import LEVEL, SIGNIFICANCE
from layerscope.statistics.modes import MIN_PROMPTS, find_modes
from layerscope.studies.estimates import Estimate, no_estimate
from layerscope.studies.findings import Claim, Test, number, p_words
from layerscope.studies.grid import PAIR, READOUT, is_ssm, model_spec, require_trained, short, text_spec
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.prompt_curves import band
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study

SOURCE = "arXiv 2412.09563, section 4.3 and figure 4"
VARIANTS = ("paper", "centered", "unit", "centered-unit")
POSITIONS = ("all", "no-first", "no-sink")
# Which of a layer's densities are drawn: what lies outside is a handful of prompts that would flatten the rest.
SHOWN = (0.005, 0.995)
PLACES = 161

BIMODAL = Claim(
    "bimodal",
    "At certain layers of a Transformer the prompts' entropy has two modes",
    SOURCE,
    "dip at the layer with the largest one, less what a single mode exceeds in 5 % of samples",
    "positive",
)
MIDDLE = Claim(
    "bimodal-in-the-middle",
    "The two modes are clearest in the middle layers",
    SOURCE,
    "largest dip of the middle third minus the largest of the other layers",
    "positive",
)
ABSENT = Claim(
    "ssm-not-bimodal",
    "No layer of a state-space model has two modes",
    SOURCE,
    "dip at the layer with the largest one, less what a single mode exceeds in 5 % of samples",
    "negative",
)


def modes_run(spec: StudySpec, model: str) -> RunSpec:
    """Prompt entropy in every way that could make modes come or go, from one pass; shared with `mode-causes`."""
    return RunSpec(
        model=model_spec(spec, model),
        texts=text_spec(spec),
        metrics=("prompt_entropy", "norm_ratio"),
        variants=VARIANTS,
        readouts=(READOUT,),
        positions=POSITIONS,
        normalizations=("none", "logN"),
        resamples=200,
        seed=spec.seed,
    )


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a model."""
    require_trained(spec.models)
    if spec.n is not None and spec.n < MIN_PROMPTS:
        raise UserError(f"too few prompts for a dip test: expected --n of at least {MIN_PROMPTS}, got {spec.n}")
    return [Measure(model, modes_run(spec, model)) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Hartigan's dip at every layer of every model, and a figure of the distributions."""
    tests: list[Test] = []
    figures: list[Drawing] = []
    tables: dict[str, pl.DataFrame] = {}
    lines: list[pl.DataFrame] = []
    notes = [
        "A dip test that does not reject is no evidence for one mode. So two clear modes (a share of 40 : 60, "
        f"{DISTANCE:g} standard deviations apart) are tested as well, and p is twice the smaller of the two: a dip below "
        "what one mode gives, with a small p, says that two modes as clear as these are not there. Modes that overlap more "
        "are not excluded.",
        f"At every layer the p-value is adjusted over the layers of a model (Benjamini and Hochberg); at least {MIN_PROMPTS} "
        "prompts are needed. That the layer with the largest dip was chosen for it is not paid for in its interval.",
    ]
    for model in spec.models:
        if not results.has(model):
            continue
        run = results.run(model)
        rows = entropy_rows(run)
        modes = find_modes(rows, seed=spec.seed)
        tables[f"modes-{file_name(model)}"] = modes
        tests += _tests(model, run, rows, modes, spec.seed)
        notes.append(_sentence(model, modes))
        if modes["dip"].is_not_nan().any():
            lines.append(_dip_line(model, modes, run.record.resolved.n_layers))
        data = ridge_data(rows, modes)
        if not data.is_empty():
            count = int(modes["n_prompts"].to_numpy().max())
            figure = plot_ridges(
                data,
                f"Prompt entropy at every layer, {short(model)}",
                f"{count} prompts of {short_name(run.record.spec.texts.source)}; orange: two modes (adjusted p of the "
                "dip below .05), dashed: where they part",
                "place within the layer's range, 0.5 % to 99.5 % of its prompts",
            )
            figures.append(Drawing(f"modes-{file_name(model)}", figure, data))
    if lines:
        data = pl.concat(lines)
        sizes = {run.record.resolved.n_prompts for run in results.runs().values()}
        critical = {"dip": critical_dip(max(sizes), spec.seed)} if len(sizes) == 1 else {}
        look = FacetLook(
            title="Hartigan's dip over depth",
            about=f"{' or '.join(map(str, sorted(sizes)))} prompts; grey: what one mode exceeds in 5 % of samples",
            x_label="depth (layer / number of layers)",
            y_labels={"dip": "Hartigan's dip"},
            reference=critical,
        )
        figures.insert(0, Drawing("dips", plot_facets(data, look), data))
    return Outcome(tests, figures, tables, notes)


def entropy_rows(
    run: Run, *, variant: str = "paper", positions: str = "all", normalization: str = "none"
) -> pl.DataFrame:
    """The prompts table of one kind of prompt entropy."""
    return run.prompts.filter(
        pl.col("metric") == "prompt_entropy",
        pl.col("variant") == variant,
        pl.col("positions") == positions,
        pl.col("normalization") == normalization,
        pl.col("readout") == READOUT,
    )


def values_at(rows: pl.DataFrame, layer: int, ids: Sequence[str]) -> Float[np.ndarray, " prompts"]:
    """The values at a layer in the order of the prompt ids; NaN where there is none."""
    found = dict(rows.filter(pl.col("layer") == layer).select("prompt_id", "value").iter_rows())
    return np.array([np.nan if found.get(one) is None else found[one] for one in ids], dtype=np.float64)


def largest_dip(modes: pl.DataFrame) -> dict[str, object] | None:
    """The row with the largest dip, significant or not; None where no layer could be tested."""
    tested = modes.filter(pl.col("dip").is_not_nan())
    return None if tested.is_empty() else tested.sort("dip", descending=True, maintain_order=True).row(0, named=True)


def dip_estimate(values: Float[np.ndarray, " prompts"], p_one_mode: float | None = None, seed: int = 0) -> Estimate:
    """`weigh_dip` as an estimate."""
    try:
        weighed = weigh_dip(values, p_one_mode=p_one_mode, seed=seed)
    except UserError as error:
        return no_estimate(str(error))
    return Estimate(weighed.excess, weighed.low, weighed.high, weighed.p, weighed.n)


def file_name(model: str) -> str:
    """A model's name in a file's name."""
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in short(model))


def _tests(model: str, run: Run, rows: pl.DataFrame, modes: pl.DataFrame, seed: int) -> list[Test]:
    strongest = largest_dip(modes)
    claim = ABSENT if is_ssm(model) else BIMODAL
    if strongest is None:
        return [Test(claim, short(model), no_estimate(str(modes["note"][0])))]
    ids = rows["prompt_id"].unique(maintain_order=True).to_list()
    layer = int(str(strongest["layer"]))
    at = values_at(rows, layer, ids)
    adjusted = float(str(strongest["p_adjusted"]))
    tests = [Test(claim, f"{short(model)}, layer {layer}", dip_estimate(at, adjusted, seed))]
    if not is_ssm(model):
        depths = modes["layer"].to_numpy() / run.record.resolved.n_layers
        if adjusted >= SIGNIFICANCE:
            estimate = no_estimate("no layer has two modes")
        else:
            table = np.column_stack([values_at(rows, int(one), ids) for one in modes["layer"]])
            estimate = _middle(table[np.isfinite(table).all(axis=1)], band(depths, "middle"), seed)
        tests.append(Test(MIDDLE, short(model), estimate))
    return tests


def _middle(table: np.ndarray, middle: np.ndarray, seed: int) -> Estimate:
    """The difference of the largest dips inside and outside the middle third, with the error of `dip_error`."""
    import diptest

    def lead(rows: np.ndarray) -> float:
        dips = np.array([diptest.dipstat(column) for column in rows.T])
        return float(dips[middle].max() - dips[~middle].max())

    n = len(table)
    if n < MIN_PROMPTS or not middle.any() or middle.all():
        return no_estimate(f"{n} prompts have a value at every layer, at least {MIN_PROMPTS} are needed")
    full = lead(table)
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 10]))
    error = float(np.std([lead(table[rng.permutation(n)[: n // 2]]) for _ in range(HALVES)]))
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    p = float(2 * stats.norm.sf(abs(full) / error)) if error > 0 else 1.0
    return Estimate(full, full - half, full + half, p, n)


def _sentence(model: str, modes: pl.DataFrame) -> str:
    """What the dip test says of a model, in words."""
    strongest = largest_dip(modes)
    if strongest is None:
        return f"{short(model)}: {modes['note'][0]}."
    found = modes.filter(pl.col("p_adjusted") < SIGNIFICANCE)
    words = f"{short(model)}: the largest dip, {number(float(str(strongest['dip'])))}, is at layer {strongest['layer']}"
    if found.is_empty():
        words += f" (adjusted {p_words(float(str(strongest['p_adjusted'])))}): one mode is not rejected at any layer."
        return words
    layers = ", ".join(str(layer) for layer in found["layer"].sort())
    return (
        f"{words}; layers with two modes: {layers}. There the two Gaussians of the fit have means "
        f"{number(float(str(strongest['low_mean'])))} and {number(float(str(strongest['high_mean'])))} nats, "
        f"{number(float(str(strongest['distance'])))} standard deviations apart (95 % interval "
        f"{number(float(str(strongest['distance_ci_low'])))} to {number(float(str(strongest['distance_ci_high'])))}), and "
        f"{float(str(strongest['low_share'])):.0%} of the prompts are in the lower one."
    )


def _dip_line(model: str, modes: pl.DataFrame, n_layers: int) -> pl.DataFrame:
    n = len(modes)
    return pl.DataFrame(
        {
            "row": ["dip"] * n,
            "column": [""] * n,
            "line": [short(model)] * n,
            "step": [None] * n,
            "x": modes["layer"].to_numpy() / n_layers,
            "value": modes["dip"],
            "low": [np.nan] * n,
            "high": [np.nan] * n,
        },
        schema=FACETS,
    )


def ridge_data(rows: pl.DataFrame, modes: pl.DataFrame) -> pl.DataFrame:
    """A kernel density (Silverman's bandwidth, halved so that two modes stay two) of every layer over its own range."""
    parts = []
    for row in modes.iter_rows(named=True):
        values = rows.filter(pl.col("layer") == row["layer"])["value"].fill_null(float("nan")).to_numpy()
        values = values[np.isfinite(values)]
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        low, high = np.quantile(values, SHOWN)
        if high <= low:
            continue
        grid = np.linspace(low, high, PLACES)
        kernel = stats.gaussian_kde(values, bw_method="silverman")
        kernel.set_bandwidth(kernel.factor / 2)
        tested = np.isfinite(row["dip"])
        marked = bool(tested and row["p_adjusted"] < SIGNIFICANCE)
        words = f"{number(low)} – {number(high)} nats"
        if tested:
            words += f", dip {row['dip']:.3f}, {p_words(row['p_adjusted'])}"
        parts.append(
            pl.DataFrame(
                {
                    "layer": [row["layer"]] * PLACES,
                    "place": np.linspace(0, 1, PLACES),
                    "density": kernel(grid),
                    "split": [(row["split"] - low) / (high - low) if marked else None] * PLACES,
                    "marked": [marked] * PLACES,
                    "words": [words] * PLACES,
                },
                schema=RIDGES,
            )
        )
    return pl.concat(parts) if parts else pl.DataFrame(schema=RIDGES)


STUDY = Study(
    name="modes",
    what="whether prompts fall into two groups by their entropy, at which layer and in which model",
    paper="arXiv 2412.09563, figure 4",
    presets={
        "small": StudySpec(preset="small", models=(*PAIR, "smollm2-135m"), n=400, context=512),
        "paper": StudySpec(
            preset="paper",
            models=("EleutherAI/pythia-410m", "state-spaces/mamba-370m-hf", "meta-llama/Meta-Llama-3-8B"),
            texts="ai-medical",
            n=1000,
            context=512,
            dtype="float32",
        ),
    },
    options=frozenset({"models", "texts", "column", "n", "context"}),
    jobs=jobs,
    analyse=analyse,
)
