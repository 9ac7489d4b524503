"""Whole experiments, each one command: a grid of jobs, an analysis, figures, and findings with their verdicts.

A study is one `Study` in a file of its own and one line in `catalogue.py`:

    STUDY = Study(
        name="extremes",
        what="prompt entropy of repeated, randomised and random prompts over layers",
        paper="arXiv 2412.09563, figure 3",
        presets={"small": StudySpec(preset="small", ...), "paper": StudySpec(preset="paper", ...)},
        options=frozenset({"models", "texts", "n"}),     # fields of StudySpec that a user may change
        jobs=jobs,                                       # (StudySpec) -> Sequence[Job]
        analyse=analyse,                                 # (StudySpec, Results) -> Outcome
    )

- `jobs(spec)` gives the grid. A job is `Measure(key, RunSpec)`, `Score(key, ModelSpec, TasksSpec)`, or any frozen class with
  the three members of `jobs.Job`: `key` (how the analysis finds its result), `slug` and `identity` (what its folder
  is called and hashed by), `start(folder, report)` (do it or go on with it, and return what the analysis reads). Jobs with
  equal identities share one folder under OUT/runs, within and between studies. Build `RunSpec`s with `grid.py`, so that
  studies that need the same numbers ask for the same run. `jobs` must run without a model or a hub, so that `paper` can
  be checked anywhere; it raises `UnavailableError(reason, command)` where nothing can be done here.
- A job that fails is named in `Results.missing`, and the others go on. `analyse(spec, results)` takes what is there:
  `results.run(key)`, `results.scores(key)`, `results.of(key, Type)`, `results.has(key)`.
- `Outcome(tests, figures, tables, notes, files)`: `tests` are `Test(claim, about, estimate)`; the framework adjusts their
  p-values together and gives the verdicts (findings.py). Estimates come from `estimates.py` (paired over prompts) or from
  `layerscope.statistics`. `figures` are `Drawing(name, figure, data)`, `tables` data frames by name (parquet), `notes`
  sentences for the end of findings.md, `files` further text files by name (examples.md).
- The framework (study.py) writes OUT/NAME/{study.json, findings.json, findings.md, *.png, *.svg, *.parquet}, refuses to go
  on with other settings, and reports progress over the whole grid.
"""
