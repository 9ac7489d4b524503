"""Runs on disk: what was asked, what it resolved to, and the tables. Written whole or not at all."""
