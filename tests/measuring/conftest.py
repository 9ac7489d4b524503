"""A tiny random Llama, texts it can read, and a spec that measures it."""

import random

import pytest

from layerscope.config import ModelSpec, RunSpec, TextSpec, ViewSpec


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory):
    draw = random.Random(0)
    # w20 to w39 would read as the special tokens w2 and w3 and a digit.
    lines = [" ".join(f"w{draw.randrange(40, 96)}" for _ in range(draw.randrange(5, 40))) for _ in range(24)]
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny_spec(family_folder, texts_file):
    def spec(**options):
        defaults = {"block_size": 5, "batch_tokens": 120, "resamples": 100}
        return RunSpec(
            model=ModelSpec(name=str(family_folder(options.pop("family", "llama")))),
            texts=TextSpec(
                source=str(texts_file), n=options.pop("n", 18), perturbation=options.pop("perturbation", None)
            ),
            views=ViewSpec(views=options.pop("views", 4)),
            **(defaults | options),
        )

    return spec
