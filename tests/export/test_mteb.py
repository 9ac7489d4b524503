"""mteb.evaluate of an export gives the score that the sweep gave at that layer."""

import json
import warnings

import pytest
import torch

from layerscope.export.checking import open_export
from layerscope.export.export import export_layer


@pytest.fixture(scope="module", autouse=True)
def _mteb():
    # Importing MTEB reseeds the global generators and warns about its own dependencies.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from layerscope.tasks.process import import_quietly

        import_quietly("mteb", "`layerscope tasks`")


@pytest.mark.slow
def test_the_score_of_the_sweep(reader, tmp_path):
    import mteb
    from tests.tasks.own_tasks import OwnClassification, OwnSTS

    from layerscope.tasks.process import kept_random_state, quiet_mteb
    from layerscope.tasks.run import score_tasks

    kinds = (OwnClassification, OwnSTS)
    with kept_random_state():
        swept = [kind() for kind in kinds]
    run = score_tasks(
        str(reader), swept, out=tmp_path / "run", cache=str(tmp_path / "cache"), workers=1, readout=("raw", "normed"),
        layers=(1, 3),
    )  # fmt: skip
    assert run.failures == ()

    def saved(readout, layer, name):
        file = run.path / "tasks" / f"{readout}_all" / f"layer_{layer}" / f"{name}.json"
        return json.loads(file.read_text())["scores"]["test"][0]["main_score"]

    apart = 0
    for readout in ("raw", "normed"):
        made = export_layer(str(reader), 1, out=tmp_path / readout, readout=readout)
        opened = open_export(made.path, torch.device("cpu"))
        for kind in kinds:
            with warnings.catch_warnings(), kept_random_state(), quiet_mteb():
                warnings.simplefilter("ignore")
                result = mteb.evaluate(opened, kind(), cache=None, co2_tracker=False, show_progress_bar=False)
            name = kind.metadata.name
            theirs = result.task_results[0].scores["test"][0]["main_score"]
            assert theirs == pytest.approx(saved(readout, 1, name), abs=1e-5), name
            apart += theirs != pytest.approx(saved(readout, 3, name), abs=1e-3)
    # Or the scores would be the same whichever layer was exported.
    assert apart >= 3
