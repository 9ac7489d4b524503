"""Workers that compute on one thread each, so that results do not depend on how many cores share them."""

from __future__ import annotations

import torch


def use_one_thread() -> None:
    """Let the calling thread compute on one core; other threads, such as the main one, keep all of theirs."""
    # A thread takes over torch's number of threads when it first computes or asks for it. One that has not done so yet
    # would take over what the main thread sets later, in place of this 1.
    torch.get_num_threads()
    torch.set_num_threads(1)
