"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tests.families import BY_LENGTH, FAMILIES, REFUSED, TABLES, save_family

from layerscope.config import ModelSpec
from layerscope.inputs.models import LoadedModel, load_model

# A loaded machine is slow, not wrong.
settings.register_profile("layerscope", deadline=None)
settings.load_profile("layerscope")

# The models are tiny: threads cost more than they save.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of a family, saved once a session. Treat it as read-only."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = save_family(
                (FAMILIES | BY_LENGTH | TABLES | REFUSED)[name], tmp_path_factory.mktemp("family") / name
            )
        return folders[name]

    return folder


@pytest.fixture(scope="session")
def family_model(family_folder: Callable[[str], Path]) -> Callable[[str], LoadedModel]:
    """A tiny random model of a family, loaded once a session. Treat it as read-only."""
    models: dict[str, LoadedModel] = {}

    def model(name: str) -> LoadedModel:
        if name not in models:
            models[name] = load_model(
                ModelSpec(name=str(family_folder(name)), part=(FAMILIES | BY_LENGTH | TABLES)[name].part)
            )
        return models[name]

    return model


@pytest.fixture(scope="session")
def tiny_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the tiny pair of the zoo in it, trained once a session. Treat it as read-only."""
    from layerscope.training.recipes import TINY_PAIR
    from layerscope.training.zoo import train_zoo

    cache = tmp_path_factory.mktemp("zoo")
    train_zoo(TINY_PAIR, cache=cache)
    return cache


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator of this test's own."""
    return torch.Generator().manual_seed(0)
