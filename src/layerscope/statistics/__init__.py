"""Numbers in, numbers out: intervals, resampling, association, modes, tests. No model, no run and no torch."""
