"""The command line: verbs, thin over the Python API. Heavy imports wait in the verbs, so that --help answers at once."""

from layerscope.cli.app import main

__all__ = ["main"]
