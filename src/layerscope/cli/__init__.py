"""The command line: verbs, thin over the Python API."""

from layerscope.cli.app import main

__all__ = ["main"]
