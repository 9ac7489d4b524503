"""Statistics over result tables: relations, selection, modes, differences. No model and no torch."""
