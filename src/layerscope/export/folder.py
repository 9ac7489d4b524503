"""The folder: whole or absent, and every file in it that sentence-transformers reads."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from layerscope.config import Pooling
from layerscope.errors import LayerscopeError, RunFailedError, UserError
from layerscope.export.cutting import Cut
from layerscope.export.spec import ExportSpec
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
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  (resolve() would follow a link)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    parents = [parent for parent in path.parents if not parent.exists()]
    done = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for file in (child for child in temporary.rglob("*") if child.is_file()):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        temporary.replace(path)
        done = True
    except LayerscopeError:
        raise
    except Exception as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not done:
            for parent in parents:
                with suppress(OSError):
                    parent.rmdir()


def _cannot_write(path: Path, error: Exception) -> Exception:
    # safetensors reports a full disk as an error of its own.
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error) or "File too large" in str(error):
        return RunFailedError(f"the disk is full, {path} was not written: free some space and run the same command")
    if isinstance(error, OSError):
        return UserError(f"cannot write {path} ({error.strerror or error}): choose a folder that you may write to")
    return error


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
    names = ["Transformer", *(["WordWeights"] if first_id is not None else []), "Pooling"]
    names += ["Normalize"] if spec.normalize else []
    paths = [f"{index}_{name}" if index else "" for index, name in enumerate(names)]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _TYPES[name]}
        for index, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    for path in paths[1:]:
        (folder / path).mkdir()
    settings = dict(zip(names, paths, strict=True))
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "sentence_bert_config.json", _transformer(cut, tokenizer))
    pooling = {"embedding_dimension": dim, "pooling_mode": _POOLING[spec.pooling], "include_prompt": True}
    _write_json(folder / settings["Pooling"] / "config.json", pooling)
    if first_id is not None:
        _write_weights(folder / settings["WordWeights"], tokenizer, first_id, int(_vocabulary(cut)))
    if spec.normalize:
        names_in = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
        _write_json(folder / settings["Normalize"] / "config.json", names_in)
    _write_json(folder / "config_sentence_transformers.json", _top(cut, spec))


def _transformer(cut: Cut, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    # Without a modality_config that knows text alone, plain text would be wrapped in a chat template where there is one.
    output = cut.output if isinstance(cut.output, str) else list(cut.output)
    return {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": output}},
        "module_output_name": "token_embeddings",
        "max_seq_length": tokenizer.model_max_length,
    }


def _top(cut: Cut, spec: ExportSpec) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("sentence-transformers", "transformers", "torch")}
    top: dict[str, Any] = {
        "model_type": "SentenceTransformer",
        "__version__": {
            "sentence_transformers": versions["sentence-transformers"],
            "transformers": versions["transformers"],
            "pytorch": versions["torch"],
        },
        "prompts": {"query": "", "document": ""} | (spec.prompts or {}),
        "default_prompt_name": spec.default_prompt,
        "similarity_fn_name": "cosine",
    }
    if not isinstance(cut.output, str):
        reason = "older versions give other states, without an error"
        top["requirements"] = {
            name: {"specifier": f">={versions[name]}", "reason": reason}
            for name in ("sentence-transformers", "transformers")
        }
    return top


def _write_weights(folder: Path, tokenizer: PreTrainedTokenizerBase, first_id: int, size: int) -> None:
    from sentence_transformers.sentence_transformer.modules import WordWeights

    words = {index: word for word, index in tokenizer.get_vocab().items()}
    vocabulary = [words.get(index, f"<id {index}>") for index in range(max(size, max(words) + 1))]
    # The module also looks words up in lower case: "<S>" would find the weight of "<s>".
    weights = {word: 1.0 for word in vocabulary if word.lower() == vocabulary[first_id]} | {vocabulary[first_id]: 0.0}
    with torch.random.fork_rng(devices=[]):
        WordWeights(vocabulary, weights, 1.0).save(str(folder))


def _vocabulary(cut: Cut) -> int:
    return int(cut.model.get_input_embeddings().weight.shape[0])


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
