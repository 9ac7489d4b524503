"""Downstream scores of every layer: MTEB's tasks and evaluators, each text encoded once for all layers."""
