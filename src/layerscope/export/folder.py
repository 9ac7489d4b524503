"""The folder: whole or absent, and every file in it that sentence-transformers reads."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from layerscope.config import Pooling
from layerscope.errors import UserError
from layerscope.export.cutting import Cut
from layerscope.export.spec import ExportSpec
from layerscope.files.reading import expanded
from layerscope.files.writing import make_folder, whole_file
from layerscope.inputs.quiet import quiet_libraries

_PREFIX = "sentence_transformers"
_TYPES = {
    "Transformer": f"{_PREFIX}.base.modules.transformer.Transformer",
    "WordWeights": f"{_PREFIX}.sentence_transformer.modules.word_weights.WordWeights",
    "Pooling": f"{_PREFIX}.sentence_transformer.modules.pooling.Pooling",
    "Normalize": f"{_PREFIX}.base.modules.normalize.Normalize",
}
_POOLING: dict[Pooling, str] = {"mean": "mean", "last": "lasttoken", "first": "cls"}


def refuse_folder(path: Path) -> None:
    """Refuse to write over anything.

    Raises:
        UserError: a file stands there, or a folder that is not empty.
    """
    if path.is_dir():
        held = sorted(child.name for child in path.iterdir())
        if held:
            raise UserError(f"{path} is not empty (it holds {', '.join(held[:3])}): choose another --out")
    elif path.exists() or path.is_symlink():
        raise UserError(f"{path} is a file: choose a new folder for --out")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path`; it takes the name `path` when the block ends well and is gone when not.

    Raises:
        RunFailedError: the disk is full.
        UserError: the folder cannot be written.
    """
    path = Path(os.path.abspath(expanded(str(path))))  # noqa: PTH100  (resolve() would follow a link)
    new = [parent for parent in path.parents if not parent.exists()]
    try:
        make_folder(path.parent)
        with whole_file(path) as temporary:
            temporary.mkdir()
            yield temporary
    except BaseException:
        for parent in new:
            with suppress(OSError):
                parent.rmdir()
        raise


def write_folder(
    folder: Path, cut: Cut, tokenizer: PreTrainedTokenizerBase, spec: ExportSpec, *, dim: int, first_id: int | None
) -> None:
    """Write the cut model, its tokenizer and the modules around it.

    Args:
        folder: an empty folder.
        cut: the model; it is saved in the precision it is in.
        tokenizer: with its padding and longest text as they shall be.
        spec: readout, pooling, prompts, ...
        dim: length of a vector.
        first_id: a token that does not count.
    """
    with quiet_libraries():
        cut.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        # safetensors lets nobody but the owner read what it writes.
        shutil.copymode(folder / "config.json", weights)
    parts = {"Transformer": True, "WordWeights": first_id is not None, "Pooling": True, "Normalize": spec.normalize}
    names = [name for name, there in parts.items() if there]
    paths = {name: f"{index}_{name}" if index else "" for index, name in enumerate(names)}
    versions = {name: importlib.metadata.version(name) for name in ("sentence-transformers", "transformers", "torch")}
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": _TYPES[name]}
            for index, (name, path) in enumerate(paths.items())
        ],
        # Without a modality_config that knows text alone, plain text would be wrapped in a chat template where there is one.
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": cut.output}},
            "module_output_name": "token_embeddings",
            "max_seq_length": tokenizer.model_max_length,
        },
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "__version__": dict(zip((_PREFIX, "transformers", "pytorch"), versions.values(), strict=True)),
            "prompts": {"query": "", "document": ""} | (spec.prompts or {}),
            "default_prompt_name": spec.default_prompt,
            "similarity_fn_name": "cosine",
        },
        f"{paths['Pooling']}/config.json": {
            "embedding_dimension": dim,
            "pooling_mode": _POOLING[spec.pooling],
            "include_prompt": True,
        },
    }
    if not isinstance(cut.output, str):
        reason = "older versions give other states, without an error"
        files["config_sentence_transformers.json"]["requirements"] = {
            name: {"specifier": f">={versions[name]}", "reason": reason}
            for name in ("sentence-transformers", "transformers")
        }
    if spec.normalize:
        sides = ("module_input_name", "module_output_name")
        files[f"{paths['Normalize']}/config.json"] = dict.fromkeys(sides, "sentence_embedding")
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if first_id is not None:
        size = int(cut.model.get_input_embeddings().weight.shape[0])
        _write_weights(folder / paths["WordWeights"], tokenizer, first_id, size)


def _write_weights(folder: Path, tokenizer: PreTrainedTokenizerBase, first_id: int, size: int) -> None:
    from sentence_transformers.sentence_transformer.modules import WordWeights

    words = {index: word for word, index in tokenizer.get_vocab().items()}
    vocabulary = [words.get(index, f"<id {index}>") for index in range(max(size, max(words) + 1))]
    # The module also looks words up in lower case: "<S>" would find the weight of "<s>".
    weights = {word: 1.0 for word in vocabulary if word.lower() == vocabulary[first_id]} | {vocabulary[first_id]: 0.0}
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        WordWeights(vocabulary, weights, 1.0).save(str(folder))
