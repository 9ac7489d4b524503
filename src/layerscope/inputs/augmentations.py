"""Augmented views of a prompt with NLPAug, each drawn from its own seeded stream."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from layerscope.config import Augmentation, ViewSpec
from layerscope.errors import missing_package
from layerscope.inputs.seeds import stable_seed


@runtime_checkable
class _Augmenter(Protocol):
    sample: Callable[..., Any]
    prob: Callable[..., float]

    def augment(self, data: str) -> list[str]: ...


def make_views(text: str, prompt_id: str, spec: ViewSpec) -> tuple[str, ...]:
    """The augmented views of a prompt, both (or all) of them augmented.

    NLPAug's SplitAug (splits words in two), RandomCharAug (substitutes characters at random) and KeyboardAug
    (substitutes characters by neighbours on the keyboard), one after the other, with spec.strength as the share of
    words, and of characters in a word, that each of them changes, and the library's defaults otherwise. So an
    augmentation changes at most 10 words, whatever the length of the prompt, and only words of 4 or more characters.

    Each view has its own stream, seeded by (spec.view_seed, prompt_id, view): the views of a prompt are the same in
    any order, thread or process, and more views leave the first ones as they are. The process's global generators
    are neither read nor changed.

    Returns:
        spec.views strings, none of them empty unless the text is. A view can equal the text where no word is long
        enough. NLPAug puts words and punctuation together again with single spaces, so line breaks become spaces even
        in words that were not changed.

    Paper: arXiv 2412.09563, appendix F; arXiv 2502.02013, appendix D.

    Departs from the authors' code, which turns the list that NLPAug returns into a string, so that each of its views
    begins with [' and ends with '], and draws from the process's global generators.
    """
    steps = [_augmenter(name, spec.strength) for name in spec.augmentations]
    return tuple(_view(text, steps, stable_seed("view", spec.view_seed, prompt_id, view)) for view in range(spec.views))


def _view(text: str, steps: Sequence[_Augmenter], seed: int) -> str:
    if not text.strip():
        return text
    generator = random.Random(seed)

    def sample(values: list[Any] | int, num: int | None = None) -> Any:  # noqa: ANN401
        if isinstance(values, int):
            # where to split a word of so many characters: NLPAug's range, from 1 to the length less 2
            return generator.randrange(1, max(values - 1, 2))
        return generator.sample(values, num or 0)

    for step in steps:
        # NLPAug draws through these two, which it defines as class methods on the global generators
        step.sample = sample
        step.prob = generator.random
        augmented = step.augment(text)
        # an augmenter gives a list, and an empty one for what it cannot work on
        text = augmented[0] if augmented and augmented[0].strip() else text
    return text


def _augmenter(name: Augmentation, strength: float) -> _Augmenter:
    # imported when first needed: it pulls in pandas and takes seconds, and what it imports draws from the global
    # generator, which is put back
    state = random.getstate() if "nlpaug.augmenter.word" not in sys.modules else None
    try:
        from nlpaug.augmenter import char, word
    except ModuleNotFoundError as error:
        raise missing_package("nlpaug", "the augmented views") from error
    finally:
        if state is not None:
            random.setstate(state)
    kinds = {"split": word.SplitAug, "char": char.RandomCharAug, "keyboard": char.KeyboardAug}
    shares = {"aug_p": strength} if name == "split" else {"aug_char_p": strength, "aug_word_p": strength}
    augmenter: _Augmenter = kinds[name](**shares)
    return augmenter
