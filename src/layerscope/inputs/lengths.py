"""Which prompts may share a batch by their lengths, for models whose arithmetic depends on the padded length."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from transformers import PreTrainedConfig

_ORIGINAL = "original_max_position_embeddings"
_WINDOW = re.compile(r"window|chunk|block_size|local_attention|floor_scale")


@dataclass(frozen=True)
class Lengths:
    """Ranges of lengths: prompts of two ranges never share a batch, nor is one padded into the next range.

    Attributes:
        ends: the last length of each range, ascending; the last range has no end.
        above: beyond this length a range holds `step` lengths; None: nowhere.
        step: 1: only prompts of equal length share a batch, and nothing is padded.
    """

    ends: tuple[int, ...] = ()
    above: int | None = None
    step: int = 1

    def longest(self, length: int) -> int | None:
        """How many tokens a prompt of `length` tokens may be padded to; None: any. Equal answers may share a batch."""
        if self.above is not None and length > self.above:
            return -(-length // self.step) * self.step
        ends = self.ends if self.above is None else (*self.ends, self.above)
        return min((end for end in ends if length <= end), default=None)

    def cut_at(self, end: int) -> Lengths:
        """The same with one more end."""
        return replace(self, ends=tuple(sorted({*self.ends, end})))

    def equal_above(self, length: int) -> Lengths:
        """The same, with prompts above a length sharing a batch only with prompts of their own length."""
        return replace(self, above=length if self.above is None else min(self.above, length), step=1)


ANY_LENGTHS = Lengths()


def known_lengths(config: PreTrainedConfig) -> Lengths:
    """What a config says about lengths that compute in different ways.

    LongRoPE takes other frequencies when the batch is longer than the original context, dynamic NTK scaling takes
    frequencies of its own for each length beyond the context, and BigBird's sparse attention gives the batch's last block
    to every token.
    """
    lengths = ANY_LENGTHS
    context = getattr(config, "max_position_embeddings", None)
    for rope in _rope_settings(config):
        kind = str(rope.get("rope_type", rope.get("type", "")))
        original = rope.get(_ORIGINAL, getattr(config, _ORIGINAL, None))
        if kind == "longrope" and isinstance(original, int):
            lengths = lengths.cut_at(original)
        elif "dynamic" in kind:
            limits = [limit for limit in (original, context) if isinstance(limit, int)]
            lengths = lengths.equal_above(min(limits, default=0))
    if getattr(config, "attention_type", None) == "block_sparse":
        blocks = 5 + 2 * int(config.num_random_blocks)
        lengths = Lengths(above=blocks * int(config.block_size), step=config.block_size)
    return lengths


def named_windows(config: PreTrainedConfig) -> tuple[int, ...]:
    """The lengths a config names at which attention or a scan may come to compute in another way, ascending."""
    found = {original for rope in _rope_settings(config) if isinstance(original := rope.get(_ORIGINAL), int)}
    for name, value in config.to_dict().items():
        if _WINDOW.search(name):
            sizes = value if isinstance(value, (list, tuple)) else [value]
            found |= {size for size in sizes if type(size) is int and 1 < size < sys.maxsize}
    return tuple(sorted(found))


def _rope_settings(config: PreTrainedConfig) -> Iterator[Mapping[str, object]]:
    """The rotary settings; some families have one set for each kind of block."""
    settings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(settings, Mapping):
        return
    nested = [value for value in settings.values() if isinstance(value, Mapping)]
    yield from nested or [settings]
