"""Metrics: pure functions of tensors. Imports only torch."""
