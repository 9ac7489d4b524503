"""The tokenizer of a GGUF file: what transformers' reader leaves of how texts are split and what is put before them."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from layerscope.inputs.gguf_metadata import GgufMetadata

# tokenizer.ggml.pre by how texts are split before merges are applied, as llama.cpp has it.
_DIGITS = frozenset({"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"})
_GPT2 = frozenset(
    {"gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "a.x-4.0"}
    | {"jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jina-v1-en", "jina-v2-code", "roberta-bpe", "exaone4"}
)
_QWEN2 = frozenset({"stablelm2", "hunyuan"})
# Words of the vocabulary stay whole in these, and llama.cpp puts BOS before a text unless the file says otherwise.
_WHOLE_WORDS = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}
)
_READ = frozenset(
    {"model", "pre", "tokens", "scores", "token_type", "merges", "add_bos_token", "add_eos_token", "add_space_prefix"}
)
_HARMLESS_ENDS = ("_token_id", "token_type_count", "add_sep_token", "remove_extra_whitespaces")


def mend_tokenizer(tokenizer: PreTrainedTokenizerBase, metadata: GgufMetadata) -> tuple[str, ...]:
    """Make the tokenizer split texts as the file says.

    Returns:
        A warning for each key that was not taken over.
    """
    values = metadata.values
    kind = values.get("tokenizer.ggml.model")
    notes: list[str] = []
    if kind == "gpt2":
        notes += _mend_split(tokenizer, metadata)
    elif kind == "llama" and values.get("tokenizer.ggml.add_space_prefix") is False:
        _drop_prefix(tokenizer)
    elif kind == "t5" and "tokenizer.ggml.precompiled_charsmap" in values:
        notes.append("tokenizer.ggml.precompiled_charsmap was left unread: rare characters may become other tokens")
    if values.get("tokenizer.ggml.add_sep_token"):
        notes.append("tokenizer.ggml.add_sep_token was left unread: no separator is put behind a text")
    notes += [
        f"the GGUF file states {key}, which is not known here and was left unread"
        for key in values
        if key.startswith("tokenizer.ggml.")
        and key.removeprefix("tokenizer.ggml.") not in _READ | {"precompiled_charsmap"}
        and not key.endswith(_HARMLESS_ENDS)
    ]
    return tuple(notes)


def _mend_split(tokenizer: PreTrainedTokenizerBase, metadata: GgufMetadata) -> list[str]:
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    pre = metadata.values.get("tokenizer.ggml.pre")
    backend = tokenizer.backend_tokenizer
    if pre in _DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif pre in _QWEN2:
        split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS["qwen2"]), behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    if pre in _WHOLE_WORDS:
        backend.model.ignore_merges = True
        if "tokenizer.ggml.add_bos_token" not in metadata.values and tokenizer.bos_token is not None:
            tokenizer.add_bos_token = True
    if (
        pre in _DIGITS | _QWEN2 | _GPT2
        or pre in GGUF_PRE_TOKENIZER_SPLITS
        or (
            # Files of GPT-2 and its kin need not say how they split.
            pre is None and metadata.architecture in {"gpt2", "starcoder"}
        )
    ):
        return []
    said = (
        "names no tokenizer.ggml.pre" if pre is None else f"states tokenizer.ggml.pre = {pre}, which is not known here"
    )
    return [f"the GGUF file {said}: texts are split as GPT-2 does, which may give other tokens than the model's own"]


def _drop_prefix(tokenizer: PreTrainedTokenizerBase) -> None:
    """No space before a text."""
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.pre_tokenizer.prepend_scheme = "never"
