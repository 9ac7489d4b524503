"""Seeds that depend on what they are for, and on nothing else: not on order, process, thread or hash randomisation."""

from __future__ import annotations

import hashlib


def stable_seed(*parts: int | str) -> int:
    """A seed in [0, 2**64) from what the draws are for, such as ("views", 0, "prompt-7", 3); 1 and "1" give others."""
    # repr separates the parts and their types without ambiguity: ("a", "b") is never ("a, b",).
    # backslashreplace: an id may hold what UTF-8 cannot.
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
