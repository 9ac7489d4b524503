"""What `import layerscope` offers: the names that are looked up when first used, and those that type checkers see."""

import ast
from pathlib import Path

import pytest

import layerscope


def test_type_checkers_see_just_the_names_that_are_there():
    tree = ast.parse(Path(layerscope.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for line in block.body:
        (alias,) = line.names
        # Without `as` a type checker takes the name for the module's own business.
        assert alias.asname == alias.name
        seen.setdefault(line.module.removeprefix("layerscope."), []).append(alias.name)
    assert {module: tuple(names) for module, names in seen.items()} == {
        module: tuple(sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name)))
        for module, names in layerscope._NAMES_OF.items()
    }


def test_every_name_is_there_and_listed():
    for name in layerscope.__all__:
        assert getattr(layerscope, name).__name__ == name if name != "METRICS" else layerscope.METRICS
    assert dir(layerscope) == layerscope.__all__ == sorted(layerscope.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'mesure'"):
        layerscope.mesure  # noqa: B018
