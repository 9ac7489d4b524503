"""From a spec to a run: blocks of prompts through the model, every metric at every layer, resumable."""
