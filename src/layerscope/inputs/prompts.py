"""From texts to prompts: a seeded, nested sample that passes the token filters, tokenised and cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel

from layerscope.config import TextSpec
from layerscope.errors import UserError
from layerscope.inputs import perturbations
from layerscope.inputs.quiet import refusing
from layerscope.inputs.seeds import stable_seed
from layerscope.inputs.texts import TextSet

_CHUNK = 256  # texts tokenised at once; nothing depends on it but speed
_MOST_READ = 65_536  # texts read at once, where so many are asked for: a way through the file each time


@runtime_checkable
class Tokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    all_special_ids: list[int]
    added_tokens_decoder: dict[int, Any]

    def __call__(self, text: list[str], **options: Any) -> Mapping[str, Any]: ...  # noqa: ANN401, D102

    def get_vocab(self) -> dict[str, int]: ...  # noqa: D102


@dataclass(frozen=True)
class Prompt:
    """A text as the model gets it. `note` says what was done to it, such as "cut from 900 to 512 tokens"."""

    id: str
    text: str
    tokens: tuple[int, ...]
    note: str = ""


class Skipped(BaseModel, frozen=True):
    """A prompt that was left out, and why."""

    prompt_id: str
    n_tokens: int = 0
    reason: str


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a run, in the source's order, and what became of the other texts.

    `counts`: `candidates` texts in the source after its filters; `examined` of them in the seeded order until
    there were enough; of these `too_short` and `too_long` left out by min_tokens and max_tokens, `no_tokens` skipped,
    `prompts` taken; `cut` of these cut to the context and `duplicates` with a text that an earlier one has; `asked`
    where a number was asked for and `missing` where there are fewer; and the source's own counts.
    """

    prompts: tuple[Prompt, ...]
    skipped: tuple[Skipped, ...]
    revision: str
    filters: tuple[str, ...]
    counts: dict[str, int]


def tokenize(texts: Sequence[str], tokenizer: Tokenizer, context: int | None) -> list[tuple[int, ...]]:
    """Token ids of each text with the tokenizer's defaults, special tokens included, cut to `context` tokens (None: none).

    Cutting is the tokenizer's own truncation: special tokens it adds at the end stay, and the side is its
    `truncation_side`.

    Raises:
        UserError: the context has no room beside the tokenizer's special tokens.
    """
    if not texts:
        return []
    # verbose=False: "sequence longer than the maximum" is not news here, the lengths are what we are after
    options: dict[str, Any] = {"verbose": False, "return_attention_mask": False, "return_token_type_ids": False}
    if context is not None:
        options |= {"truncation": True, "max_length": context}
    with refusing("the tokenizer refused the texts", "check that they are plain Unicode text"):
        tokens = [tuple(ids) for ids in tokenizer(list(texts), **options)["input_ids"]]
    # a tokenizer whose special tokens alone do not fit gives back the whole text instead of an error
    if context is not None and (longest := max(map(len, tokens))) > context:
        raise UserError(
            f"a context of {context} tokens has no room beside the tokenizer's special tokens "
            f"(a prompt came out with {longest}): use a larger context"
        )
    return tokens


def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that perturbations keep in place and never draw: BOS, CLS, padding, chat and other control tokens."""
    control = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(tokenizer.all_special_ids) | control


def allowed_context(asked: int | None, built: int | None) -> int | None:
    """The longest text in tokens: what was asked for, else what the model was built for; None where there is no limit.

    A UserError where more is asked for than the model was built for.
    """
    if asked is not None and built is not None and asked > built:
        raise UserError(
            f"a context of {asked} tokens is longer than the {built} the model was built for: use at most {built}"
        )
    return built if asked is None else asked


def select_prompts(texts: TextSet, spec: TextSpec, tokenizer: Tokenizer, context: int | None) -> PromptSet:
    """Sample spec.n prompts that pass the token filters, tokenise and cut them, and apply the perturbation.

    The texts are ordered by a hash of (spec.sample_seed, id), and the first n that pass are taken: the prompts of a
    smaller n are among those of a larger one, and nothing else that draws numbers can change them. They come back in
    the source's order.

    Args:
        texts: what `load_texts` gave.
        spec: n (all where there are fewer), the filters (min_tokens, max_tokens count special tokens), context,
            too_long, perturbation, seed.
        tokenizer: the model's tokenizer.
        context: what the model was built for, in tokens; None where it has no limit. spec.context goes first.

    Raises:
        UserError: no prompt is left; prompts are longer than the context and too_long is refuse; the context is more
            than the model was built for; or the perturbation cannot be applied.
    """
    perturbation = perturbations.parse_perturbation(spec.perturbation)
    limit = allowed_context(spec.context, context)
    if perturbation is not None and perturbation.kind == "random":
        return _random_prompts(int(perturbation.amount), spec, tokenizer, limit)
    least = texts.default_min_tokens if spec.min_tokens is None else spec.min_tokens
    if spec.max_tokens is not None and least > spec.max_tokens:
        raise UserError(f"min_tokens {least} is more than max_tokens {spec.max_tokens}: no prompt can pass both")
    counts = {"candidates": len(texts.texts), "examined": 0, "too_short": 0, "too_long": 0, "no_tokens": 0}
    skipped = [Skipped(prompt_id=row, reason=reason) for row, reason in texts.skipped]
    frame = len(tokenize([""], tokenizer, None)[0])  # special tokens alone
    if limit is not None and limit <= frame:
        raise UserError(
            f"a context of {limit} tokens has no room beside the tokenizer's {frame} special ones: use a larger context"
        )
    taken: dict[int, Prompt] = {}
    for index, prompt in _seeded(texts, spec, tokenizer):
        if spec.n is not None and len(taken) == spec.n:
            break
        counts["examined"] += 1
        length = len(prompt.tokens)
        if length <= frame:
            counts["no_tokens"] += 1
            why = "the tokenizer makes no token of it"
            skipped.append(Skipped(prompt_id=prompt.id, n_tokens=length, reason=why))
        elif length < least:
            counts["too_short"] += 1
        elif spec.max_tokens is not None and length > spec.max_tokens:
            counts["too_long"] += 1
        else:
            taken[index] = prompt
    counts["prompts"] = len(taken)
    if not taken:
        raise _nothing_left(texts, skipped, counts, least, spec.max_tokens)
    if spec.n is not None:
        counts |= {"asked": spec.n, "missing": spec.n - len(taken)}
    prompts = _cut([taken[index] for index in sorted(taken)], spec, tokenizer, limit)
    counts["cut"] = sum(bool(prompt.note) for prompt in prompts)
    counts["duplicates"] = len(prompts) - len({prompt.text for prompt in prompts})
    filters = list(texts.filters)
    filters += [f"at least {least} tokens"] if least else []
    filters += [f"at most {spec.max_tokens} tokens"] if spec.max_tokens is not None else []
    filters += [f"cut to {limit} tokens"] if counts["cut"] else []
    if perturbation is not None:
        prompts = list(_perturbed(prompts, perturbation, spec.sample_seed, tokenizer))
        filters.append(perturbation.text)
    return PromptSet(tuple(prompts), tuple(skipped), texts.revision, tuple(filters), counts | texts.counts)


def _seeded(texts: TextSet, spec: TextSpec, tokenizer: Tokenizer) -> Iterator[tuple[int, Prompt]]:
    """Places and whole prompts in the seeded order, read and tokenised only as far as someone asks."""
    seeds = np.fromiter((stable_seed("sample", spec.sample_seed, name) for name in texts.ids()), np.uint64)
    order = seeds.argsort(kind="stable").tolist()
    read = min(max(_CHUNK, len(order) if spec.n is None else spec.n), _MOST_READ)
    for start in range(0, len(order), read):
        places = order[start : start + read]
        found = texts.take(places)
        for first in range(0, len(places), _CHUNK):
            chunk = found[first : first + _CHUNK]
            tokens = tokenize([text.text for text in chunk], tokenizer, None)
            prompts = (Prompt(text.id, text.text, ids) for text, ids in zip(chunk, tokens, strict=True))
            yield from zip(places[first : first + _CHUNK], prompts, strict=True)


def _cut(prompts: list[Prompt], spec: TextSpec, tokenizer: Tokenizer, limit: int | None) -> list[Prompt]:
    long = {} if limit is None else {place: one for place, one in enumerate(prompts) if len(one.tokens) > limit}
    if long and spec.too_long == "refuse":
        longest = max(long.values(), key=lambda prompt: len(prompt.tokens))
        raise UserError(
            f"{len(long)} of {len(prompts)} prompts are longer than the context of {limit} tokens, the longest "
            f"({longest.id}) has {len(longest.tokens)}: cut them with too_long=cut, or set max_tokens"
        )
    cut = tokenize([prompt.text for prompt in long.values()], tokenizer, limit)
    for (place, prompt), tokens in zip(long.items(), cut, strict=True):
        prompts[place] = replace(prompt, tokens=tokens, note=f"cut from {len(prompt.tokens)} to {len(tokens)} tokens")
    return prompts


def _perturbed(
    prompts: Sequence[Prompt], perturbation: perturbations.Perturbation, seed: int, tokenizer: Tokenizer
) -> Iterator[Prompt]:
    special = special_ids(tokenizer)
    random = perturbation.kind == "randomness"
    vocabulary = perturbations.drawable(tokenizer.get_vocab().values(), special) if random else ()
    for prompt in prompts:
        arguments = (prompt.tokens, perturbation.amount, special)
        generator = perturbations.prompt_generator(seed, prompt.id)
        if random:
            tokens = perturbations.randomize_tokens(*arguments, vocabulary, generator)
        else:
            tokens = perturbations.repeat_token(*arguments, generator)
        yield replace(prompt, tokens=tokens, note="; ".join(filter(None, (prompt.note, perturbation.text))))


def _random_prompts(length: int, spec: TextSpec, tokenizer: Tokenizer, limit: int | None) -> PromptSet:
    if spec.n is None:
        raise UserError(f"random:{length} makes as many prompts as are asked for, so n must be a number")
    if limit is not None and length > limit:
        raise UserError(f"random:{length} makes prompts of {length} tokens, and the context is {limit}: use fewer")
    empty, letter = tokenize(["", "a"], tokenizer, None)
    # what the tokenizer puts before and after every text: where the two part is the text's place
    before = next((i for i, (one, other) in enumerate(zip(empty, letter, strict=False)) if one != other), len(empty))
    if length <= len(empty):
        raise UserError(f"random:{length} leaves no token beside the tokenizer's {len(empty)} special ones: use more")
    vocabulary = perturbations.drawable(tokenizer.get_vocab().values(), special_ids(tokenizer))
    prompts = []
    for index in range(spec.n):
        name = f"random-{index:04}"
        generator = perturbations.prompt_generator(spec.sample_seed, name)
        drawn = perturbations.random_tokens(length - len(empty), vocabulary, generator)
        prompts.append(Prompt(name, "", empty[:before] + drawn + empty[before:], f"random:{length}"))
    counts = {"candidates": spec.n, "prompts": spec.n, "asked": spec.n, "missing": 0}
    return PromptSet(tuple(prompts), (), "none", (f"random:{length}",), counts)


def _nothing_left(
    texts: TextSet, skipped: Sequence[Skipped], counts: Mapping[str, int], least: int, most: int | None
) -> UserError:
    parts = [f"{value:,} {name.replace('_', ' ')}" for name, value in (dict(counts) | texts.counts).items() if value]
    if skipped:
        parts.append(f"{len(skipped):,} skipped, the first ({skipped[0].prompt_id}) because it {skipped[0].reason}")
    asked = f"at least {least} tokens" + (f" and at most {most}" if most is not None else "")
    return UserError(
        f"no prompt is left of texts {texts.source!r} ({', '.join(parts) or 'no rows at all'}): "
        f"expected texts of {asked}, so check the filters or give other texts"
    )
