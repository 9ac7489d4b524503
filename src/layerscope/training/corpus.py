"""What the zoo is trained on: the wiki leads, cut into a training and a held-out part, and a tokenizer trained on the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from layerscope.inputs.seeds import stable_seed
from layerscope.inputs.wiki import WikiLead, load_wiki, wiki_revision
from layerscope.training.recipes import Recipe

END = "<|endoftext|>"
PAD = "<|padding|>"
_HELD_OUT = 10  # one lead in ten


@dataclass(frozen=True)
class Corpus:
    """Token windows to train on and to test on, and where they come from."""

    tokenizer: PreTrainedTokenizerBase
    train: Int64[Tensor, "windows window"]
    held_out: Int64[Tensor, "windows window"]
    held_out_leads: tuple[WikiLead, ...]
    n_train_leads: int
    revision: str


def is_held_out(lead: WikiLead) -> bool:
    """Whether a lead is kept from the tokenizer and the training; it depends on nothing but its title."""
    return stable_seed("zoo", "held-out", lead.title) % _HELD_OUT == 0


def build_corpus(recipe: Recipe) -> Corpus:
    """The corpus of a recipe. Depends on the vocabulary, the number of leads and the window alone, on no seed.

    Raises:
        UserError: the package that holds the leads is not installed.
    """
    # The package goes by topic: neighbours in a window should not.
    leads = sorted(load_wiki(), key=lambda lead: stable_seed("zoo", "order", lead.title))[: recipe.leads]
    train = [lead for lead in leads if not is_held_out(lead)]
    held_out = tuple(lead for lead in leads if is_held_out(lead))
    tokenizer = train_tokenizer([lead.extract for lead in train], recipe.vocab, recipe.window)
    return Corpus(
        tokenizer=tokenizer,
        train=_windows([lead.extract for lead in train], tokenizer, recipe.window),
        held_out=_windows([lead.extract for lead in held_out], tokenizer, recipe.window),
        held_out_leads=held_out,
        n_train_leads=len(train),
        revision=wiki_revision(),
    )


def train_tokenizer(texts: Sequence[str], vocab: int, window: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer, as Pythia's: no token before a text, <|endoftext|> between texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, bos_token=END, pad_token=PAD, padding_side="right", model_max_length=window
    )


def _windows(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, window: int) -> Int64[Tensor, "windows window"]:
    """The texts one after the other, cut every `window` tokens; what is left at the end is dropped."""
    end = tokenizer.eos_token_id
    stream = [token for ids in tokenizer(list(texts), verbose=False)["input_ids"] for token in (*ids, end)]
    whole = len(stream) // window * window
    return torch.tensor(stream[:whole]).view(-1, window)
