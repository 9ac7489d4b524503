"""Hidden states: one forward pass, every layer, nothing kept."""
