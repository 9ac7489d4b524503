"""The room stands alone: it can be used where there is no torch, no transformers and no run."""

import subprocess
import sys

ALONE = """
import importlib, pkgutil, sys
import polars  # It asks whether torch is there, and does not import it.
assert "torch" not in sys.modules

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if top in {"torch", "transformers", "datasets"} or top == "layerscope" and room not in ALLOWED:
            raise ImportError(f"{name} is not to be imported here")

ALLOWED = {"", "errors", "statistics"}
sys.meta_path.insert(0, Refuse())
import layerscope.statistics
names = [found.name for found in pkgutil.iter_modules(layerscope.statistics.__path__)]
for name in names:
    importlib.import_module(f"layerscope.statistics.{name}")
import numpy as np
from layerscope.statistics.modes import weigh_dip
draws = np.random.default_rng(0)
found = weigh_dip(draws.normal(size=400) + 5 * (draws.random(400) < 0.4))
print(len(names), round(found.dip, 3), found.p_one_mode < 0.05 < found.p_two_modes)
for name in ("torch", "layerscope.results", "layerscope.config"):
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} could be imported")
"""


def test_every_module_is_imported_and_used_where_nothing_else_of_layerscope_can_be():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, dip, told = done.stdout.split()
    assert int(names) >= 8
    assert 0.03 < float(dip) < 0.25
    assert told == "True"
