"""The house: who may import whom, read from the source and not from what happens to be loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "layerscope"
FILES = sorted(SOURCE.rglob("*.py"))

# Data flows one way: a room imports only from itself and from rooms to its left.
ROOMS = [
    *(
        "errors",
        "wording",
        "config",
        "files",
        "statistics",
        "inputs",
        "states",
        "metrics",
        "figures",
        "results",
        "measuring",
    ),
    *("tasks", "mmlu", "picking", "export", "report", "training", "studies", "cli", "__main__"),
]

# What a room may take from outside the standard library, where that is less than everything.
OUTSIDE = {
    "errors": set(),
    "wording": set(),
    "config": {"pydantic"},
    "statistics": {"numpy", "scipy", "polars", "diptest", "jaxtyping"},
    "metrics": {"torch", "numpy", "jaxtyping"},
    "picking": {"numpy", "scipy", "polars", "pydantic", "pydantic_core", "jaxtyping"},
    "figures": {"numpy", "polars", "matplotlib", "rich"},
}


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """Every dotted name a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}: import by full name, not relatively"
            assert node.module is not None
            inside = node.module == "layerscope"
            yield from ([f"layerscope.{alias.name}" for alias in node.names] if inside else [node.module])


def test_every_file_is_in_a_room():
    assert {room_of(file) for file in FILES} <= {*ROOMS, "__init__"}


@pytest.mark.parametrize("file", [file for file in FILES if file != SOURCE / "__init__.py"], ids=name_of)
def test_imports_go_one_way(file):
    here = ROOMS.index(room_of(file))
    rooms = {name.split(".")[1] for name in imports(file) if name.startswith("layerscope.")}
    assert {room for room in rooms if ROOMS.index(room) > here} == set()


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) in OUTSIDE], ids=name_of)
def test_rooms_that_can_be_used_without_the_rest(file):
    packages = {name.split(".")[0] for name in imports(file)} - {"layerscope"}
    assert packages - sys.stdlib_module_names - OUTSIDE[room_of(file)] == set()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_is_named_for_its_idea(file):
    assert file.name not in {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}


POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_file_needs_a_module_that_windows_lacks(file):
    assert {name.split(".")[0] for name in imports(file)} & POSIX_ONLY == set()


IMPORT_ALL = """
import builtins, importlib, pkgutil, sys, warnings
lacking = set(sys.argv[1].split(","))
original = builtins.__import__
def on_windows(name, globals=None, *more, **named):
    # Other libraries have their own ways on Windows: only ours is looked at.
    if name.split(".")[0] in lacking and str((globals or {}).get("__name__")).startswith("layerscope"):
        raise ImportError(name)
    return original(name, globals, *more, **named)
builtins.__import__ = on_windows
warnings.simplefilter("ignore")
import layerscope
names = [found.name for found in pkgutil.walk_packages(layerscope.__path__, "layerscope.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.mark.slow
def test_every_module_can_be_imported_where_those_modules_are_not():
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(POSIX_ONLY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > len(FILES) - 30


def test_importing_layerscope_loads_no_library():
    code = "import sys, layerscope; print(*{'torch', 'transformers', 'polars', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert done.stderr == ""
