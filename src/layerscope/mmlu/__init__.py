"""MMLU: the answers of a model and the states of its layers, from the very same prompts."""
