"""Whole experiments, each one command: a grid of jobs, an analysis, figures, and findings with their verdicts.

An experiment is one `Study` in a file of experiments/ and its name in `catalogue.py`; docs/adding-a-study.md says how. A job is
`Measure(key, RunSpec)`, `Score(key, ModelSpec, TasksSpec)` or any frozen class with the members of `jobs.Job`; those with equal
identities share one folder under OUT/runs, within and between studies. `run_study` (study.py) does the jobs or goes on with
them, hands what there is to the analysis, adjusts the tests' p-values together and gives the verdicts (findings.py), and writes
OUT/NAME/{study.json, findings.json, findings.md, *.png, *.svg, *.parquet}.
"""
