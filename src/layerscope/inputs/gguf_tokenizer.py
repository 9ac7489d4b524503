"""The tokenizer of a GGUF file: what transformers' reader leaves of how texts are split and what is put before them."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from layerscope.files.reading import read_toml
from layerscope.inputs.gguf_metadata import GgufMetadata

_SPACE = "tokenizer.ggml."
_JUDGED = read_toml("inputs", "gguf")["tokenizer"]


def mend_tokenizer(tokenizer: PreTrainedTokenizerBase, metadata: GgufMetadata) -> tuple[str, ...]:
    """Make the tokenizer split texts as the file says; a warning for each key that was not taken over."""
    from tokenizers import pre_tokenizers

    values = {key.removeprefix(_SPACE): value for key, value in metadata.values.items() if key.startswith(_SPACE)}
    kind, notes = values.get("model"), []
    if kind == "gpt2":
        notes += _mend_split(tokenizer, values, metadata.architecture)
    elif kind == "llama" and values.get("add_space_prefix") is False:
        before = tokenizer.backend_tokenizer.pre_tokenizer
        if isinstance(before, pre_tokenizers.Metaspace):
            before.prepend_scheme = "never"
    elif kind == "t5" and "precompiled_charsmap" in values:
        notes.append(f"{_SPACE}precompiled_charsmap was left unread: rare characters may become other tokens")
    if values.get("add_sep_token"):
        notes.append(f"{_SPACE}add_sep_token was left unread: no separator is put behind a text")
    notes += [
        f"the GGUF file states {_SPACE}{name}, which is not known here and was left unread"
        for name in values
        if name not in _JUDGED["read"] and not name.endswith(tuple(_JUDGED["harmless_ends"]))
    ]
    return tuple(notes)


def _mend_split(tokenizer: PreTrainedTokenizerBase, values: dict[str, object], architecture: str) -> list[str]:
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS as SPLITS

    pre = values.get("pre")
    backend = tokenizer.backend_tokenizer
    if pre in _JUDGED["digits"]:
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    elif pre in _JUDGED["qwen2"]:
        split = pre_tokenizers.Split(Regex(SPLITS["qwen2"]), behavior="isolated")
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, last])
    if pre in _JUDGED["whole_words"]:
        backend.model.ignore_merges = True
        if "add_bos_token" not in values and tokenizer.bos_token is not None:
            tokenizer.add_bos_token = True
    # Files of GPT-2 and its kin need not say how they split.
    plain = pre is None and architecture in {"gpt2", "starcoder"}
    if plain or any(pre in known for known in (_JUDGED["digits"], _JUDGED["qwen2"], _JUDGED["gpt2"], SPLITS)):
        return []
    said = f"names no {_SPACE}pre" if pre is None else f"states {_SPACE}pre = {pre}, which is not known here"
    return [f"the GGUF file {said}: texts are split as GPT-2 does, which may give other tokens than the model's own"]
