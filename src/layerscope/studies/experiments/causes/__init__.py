"""Candidate causes of two modes: what is known of each prompt, and every way to take it away."""
