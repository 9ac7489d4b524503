"""GGUF files: de-quantised once into a safetensors folder that later runs load in a fraction of the time."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from layerscope.errors import DamagedError, RunFailedError, UnsupportedModelError, UserError, missing_package
from layerscope.files.reading import check_sum, expanded, open_regular, read_sealed, sums_of, write_sealed
from layerscope.files.writing import cannot_write, make_folder, tidy, whole_file
from layerscope.inputs.gguf_metadata import GgufMetadata, read_metadata
from layerscope.inputs.gguf_settings import check_rope, check_tensors, check_whole, set_rope, set_settings
from layerscope.inputs.gguf_tokenizer import mend_tokenizer
from layerscope.inputs.quiet import quiet_libraries, quiet_stderr, said_as
from layerscope.inputs.sizes import check_numbers, check_room
from layerscope.inputs.weights import check_keys, content_hash

_MAGIC = b"GGUF"
_NOTE = "gguf.json"
READING = 2
"""Of the way files are read: part of a model's revision, and folders that were converted another way are made again.

1, which no revision names, left settings unread."""


class Conversion(BaseModel):
    """Beside a converted model: what it was made of, and the sha256 of each of its files."""

    file: str
    quantisation: str
    """As the file states it: "Q4_1", "F16", or "unknown"."""
    warnings: tuple[str, ...]
    """What the file states and was left unread."""
    reading: int
    files: dict[str, str]


def cache_folder() -> Path:
    """Where converted models are kept: LAYERSCOPE_CACHE, or ~/.cache/layerscope."""
    return expanded(os.environ.get("LAYERSCOPE_CACHE") or "~/.cache/layerscope")


def convert_gguf(file: Path) -> tuple[Path, Conversion]:
    """The float32 safetensors folder of a GGUF file, from the cache or made now (about 13 s for 135M parameters).

    The folder's name is the file's sha256; what it was made of comes with it. It is written under a temporary name and
    renamed, so an interrupted conversion leaves nothing that looks finished.

    Raises:
        UserError: not a GGUF file, `gguf` or `accelerate` is missing, or the cache cannot be written.
        UnsupportedModelError: transformers cannot read this architecture from GGUF.
        RunFailedError: the disk is full.
    """
    with open_regular(file) as opened:
        if opened.read(4) != _MAGIC:
            raise UserError(f"{file} is not a GGUF file (it does not start with 'GGUF'): download it again")
    folder = cache_folder() / "gguf" / content_hash([file])
    note = _kept(folder) or _write(file, folder)
    if note is None:
        raise RunFailedError(
            f"{folder} is not what was written a moment ago: look at the disk, then delete it and try again"
        )
    return folder, note


def _kept(folder: Path) -> Conversion | None:
    """What an earlier conversion says of itself; None where a file of it has changed or it was made in another way."""
    with suppress(UserError, DamagedError):
        note = read_sealed(folder / _NOTE, Conversion, version=1, since=1, advice="convert it again")
        for name in {child.name for child in folder.iterdir()} - {_NOTE} | note.files.keys():
            check_sum(folder / name, note.files, name)
        if note.reading == READING:
            return note
    return None  # as if it were not there: it is only a copy of the file


def _write(file: Path, folder: Path) -> Conversion | None:
    try:
        make_folder(folder.parent)
    except UserError as error:
        raise UserError(f"{error}, and set LAYERSCOPE_CACHE to it") from error
    tidy(folder.parent)
    try:
        with whole_file(folder) as temporary:
            temporary.mkdir()
            _dequantise(file, temporary)
            if folder.exists() and _kept(folder) is None:
                shutil.rmtree(folder)
    except UserError:
        # Another process may have been faster, and be reading it.
        if _kept(folder) is None:
            raise
    return _kept(folder)


def _dequantise(file: Path, folder: Path) -> None:
    from safetensors.torch import save_file
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    with said_as(partial(_gguf_error, file)), quiet_libraries(), quiet_stderr(), torch.random.fork_rng(devices=[]):
        metadata = read_metadata(file)
        check_whole(metadata)
        check_numbers(metadata.values, len(metadata.tensors), file.name)
        where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
        config = AutoConfig.from_pretrained(**where)
        warnings = set_settings(config, metadata)
        set_rope(config, metadata)
        check_room(config, file.stat().st_size, file.name)
        # With a head where there is one: the reader finds the weights of some families by that class's names alone, and
        # leaves those of a headless model as they were drawn.
        kind = AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel
        whole, info = kind.from_pretrained(
            **where, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
        missing = [key for key in info["missing_keys"] if not key.startswith("lm_head.")]
        check_keys(whole, file.name, missing, [key for key, *_ in info["mismatched_keys"]])
        check_tensors(metadata, _left(whole, metadata, info["unexpected_keys"]))
        check_rope(whole, metadata)
        model = whole.base_model
        tokenizer = AutoTokenizer.from_pretrained(**where, padding_side="right")
        warnings += mend_tokenizer(tokenizer, metadata)
    config.architectures = [type(model).__name__]
    config.dtype = torch.float32
    with said_as(partial(_not_written, folder)):
        tokenizer.save_pretrained(folder)
        config.save_pretrained(folder)
        state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    files = sums_of(folder, [child.name for child in folder.iterdir()])
    level = metadata.quantisation()
    note = Conversion(file=file.name, quantisation=level, warnings=warnings, reading=READING, files=files)
    write_sealed(note, folder / _NOTE)


def _not_written(folder: Path, text: str, error: BaseException) -> RunFailedError | UserError:
    """A library in Rust has the system's number of an error in its words alone."""
    found = re.search(r"os error (\d+)", text)
    number = getattr(error, "errno", None) or (int(found.group(1)) if found else None)
    return cannot_write(folder, OSError(number, text))


def _left(model: PreTrainedModel, metadata: GgufMetadata, unexpected: Iterable[str]) -> list[str]:
    """The tensors of the file that transformers has no place for; its older reader leaves them without a word."""
    from transformers.integrations.gguf import is_gguf_arch_supported
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    if is_gguf_arch_supported(metadata.architecture):
        return [key for key in unexpected if not key.startswith(("lm_head.", "mtp."))]
    processor = TENSOR_PROCESSORS.get(metadata.architecture, TensorProcessor)(config=model.config.to_dict())
    places = get_gguf_hf_weights_map(model, processor)
    # Experts are named without a suffix in the table of places.
    return [name for name in metadata.tensors if name not in places and name.removesuffix(".weight") not in places]


def _gguf_error(file: Path, text: str, error: BaseException) -> UserError:
    """The readers raise whatever a damaged byte leads to."""
    if isinstance(error, ImportError):
        return missing_package("accelerate" if "accelerate" in text else "gguf", f"loading {file.name}")
    if "not supported" in text or isinstance(error, NotImplementedError):
        return UnsupportedModelError(
            f"transformers cannot read {file.name}: {text.rstrip('.')[:300]}; use the model's safetensors checkpoint"
        )
    return UserError(f"{file} cannot be read as a GGUF model ({text[:300]}): download it again")
