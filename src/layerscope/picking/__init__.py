"""Evidence read once and resampled once: the layer to use, and what goes with the scores."""
