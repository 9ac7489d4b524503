"""A layer as a sentence-transformers model: cut, written, checked against our own states, measured."""
