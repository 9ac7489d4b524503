"""What the names of a spec stand for now, told by hashes of files and commits of the hub, with nothing loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from layerscope.config import ModelSpec
from layerscope.files.reading import sum_of
from layerscope.inputs.adapters import adapter_revision
from layerscope.inputs.checkpoints import identify_checkpoint
from layerscope.inputs.weights import HASH_DIGITS, as_revision

# The files that decide how a text becomes tokens, by the names that transformers gives them.
_TOKENIZER_FILES = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.tiktoken",
    "*.spm",
    "*.bpe*",
)
WITH_WEIGHTS = "as the weights"
"""The revision of a tokenizer that the model's own revision covers: one file, or one commit."""


def model_identity(spec: ModelSpec) -> dict[str, str]:
    """`model_revision`, as `load_model` gives it, and `tokenizer_revision`.

    Reading the weights once is what it costs: about 0.3 s for 100 MB, and nothing for the hub's.

    Raises:
        UserError: the model or its adapter is not there any more, or the hub cannot be asked.
    """
    found = identify_checkpoint(spec)
    revision = found.revision
    if spec.adapter is not None:
        revision = f"{revision}+adapter:{adapter_revision(spec.adapter, allow_pickle=spec.allow_pickle)}"
    folder = Path(found.source)
    if not (revision.startswith("sha256:") and folder.is_dir()):
        return {"model_revision": revision, "tokenizer_revision": WITH_WEIGHTS}
    files = {path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}
    listed = "".join(f"{file.name} {sum_of(file, follow=True)}\n" for file in sorted(files))
    return {"model_revision": revision, "tokenizer_revision": as_revision(hashlib.sha256(listed.encode()).hexdigest())}


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what a loaded tokenizer does; where it was loaded from plays no part."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        described = repr((type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())))
    else:
        # Padding and truncation are settings of the last call, not of the tokenizer.
        described = backend.from_str(backend.to_str())
        described.no_padding()
        described.no_truncation()
        described = described.to_str()
    return hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
