"""Every model type that transformers knows comes out as docs/families.md says. Run by `make sweep`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.sweep.page import PAGE, key_of, place_of, read_page
from tests.sweep.tiny import model_types
from tests.sweep.worker import Worker

pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as made:
        yield made


def test_the_page_names_the_types_of_the_installed_transformers() -> None:
    named = {model_type for model_type, _ in read_page(PAGE.read_text(encoding="utf-8"))}
    new, gone = sorted(set(model_types()) - named), sorted(named - set(model_types()))
    assert not new, f"not in docs/families.md: {', '.join(new)}: run `make families`"
    assert not gone, f"not in the installed transformers: {', '.join(gone)}: run `make families`"


@pytest.mark.parametrize("model_type", model_types())
def test_a_type_comes_out_as_the_page_says(model_type: str, worker: Worker) -> None:
    written = read_page(PAGE.read_text(encoding="utf-8"))
    for outcome in worker.check(model_type):
        found, said = place_of(outcome), written.get(key_of(outcome))
        assert found == said, (
            f"{model_type} {outcome['part'] or ''} was {said} in docs/families.md and is now {found}: if that is right, "
            "run `make families`"
        )
