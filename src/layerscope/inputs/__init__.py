"""From names to things: models, texts, prompts and their views."""
