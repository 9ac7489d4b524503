"""GGUF files: de-quantised once into a safetensors folder that later runs load in a fraction of the time."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from layerscope.errors import LayerscopeError, RunFailedError, UnsupportedModelError, UserError, missing_package
from layerscope.inputs.gguf_metadata import GgufMetadata, quantisation, read_metadata
from layerscope.inputs.gguf_rope import check_rope, set_rope
from layerscope.inputs.gguf_settings import check_tensors, check_whole, set_settings
from layerscope.inputs.gguf_tokenizer import mend_tokenizer
from layerscope.inputs.quiet import quiet_libraries, quiet_stderr
from layerscope.inputs.weights import check_keys, content_hash, weight_files

_MAGIC = b"GGUF"
_NOTE = "gguf.json"
READING = 2
"""Of the way files are read: part of a model's revision, and folders that were converted another way are made again.

1, which no revision names, left settings unread."""


@dataclass(frozen=True)
class GgufFolder:
    """A GGUF file as a Hugging Face folder."""

    folder: Path
    sha256: str
    quantisation: str
    """As the file states it: "Q4_1", "F16", or "unknown"."""
    warnings: tuple[str, ...] = ()
    """What the file states and was left unread."""


def cache_folder() -> Path:
    """Where converted models are kept: LAYERSCOPE_CACHE, or ~/.cache/layerscope."""
    chosen = os.environ.get("LAYERSCOPE_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "layerscope"


def convert_gguf(file: Path) -> GgufFolder:
    """The float32 safetensors folder of a GGUF file, from the cache or made now (about 13 s for 135M parameters).

    The folder's name is the file's sha256. It is written under a temporary name and renamed, so an interrupted
    conversion leaves nothing that looks finished.

    Raises:
        UserError: not a GGUF file, or `gguf` or `accelerate` is missing.
        UnsupportedModelError: transformers cannot read this architecture from GGUF.
    """
    with file.open("rb") as opened:
        if opened.read(4) != _MAGIC:
            raise UserError(f"{file} is not a GGUF file (it does not start with 'GGUF'): download it again")
    sha256 = content_hash([file])
    folder = cache_folder() / "gguf" / sha256
    kept = _converted(folder, sha256)
    if kept is None:
        _write(file, folder)
        kept = _converted(folder, sha256)
    if kept is None:
        raise RunFailedError(f"{folder} cannot be read back: delete it and try again")
    return kept


def _converted(folder: Path, sha256: str) -> GgufFolder | None:
    """What an earlier conversion left; nothing where it is damaged or was read in another way."""
    if not folder.is_dir():
        return None
    try:
        weight_files(folder, allow_pickle=False)
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        if note["reading"] == READING:
            return GgufFolder(folder, sha256, note["quantisation"], tuple(note["warnings"]))
    except (UserError, OSError, ValueError, KeyError, TypeError):
        pass  # as if it were not there: it is only a copy of the file
    shutil.rmtree(folder)
    return None


def _write(file: Path, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:12]}-"))
    except OSError as error:
        raise UserError(
            f"cannot write the converted model to {folder.parent} ({error.strerror}): set LAYERSCOPE_CACHE to a folder "
            "that can be written"
        ) from error
    try:
        _dequantise(file, temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _dequantise(file: Path, folder: Path) -> None:
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoTokenizer

    with _gguf_errors(file), quiet_libraries(), quiet_stderr(), torch.random.fork_rng(devices=[]):
        metadata = read_metadata(file)
        check_whole(metadata)
        where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
        config = AutoConfig.from_pretrained(**where)
        warnings = set_settings(config, metadata)
        set_rope(config, metadata)
        whole, info = _auto_class(config).from_pretrained(
            **where, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
        missing = [key for key in info["missing_keys"] if not key.startswith("lm_head.")]
        check_keys(whole, file.name, missing, [key for key, *_ in info["mismatched_keys"]])
        check_tensors(metadata, _left(whole, metadata, info["unexpected_keys"]))
        check_rope(whole, metadata)
        model = whole.base_model
        tokenizer = AutoTokenizer.from_pretrained(**where, padding_side="right")
        warnings += mend_tokenizer(tokenizer, metadata)
        tokenizer.save_pretrained(folder)
    config.architectures = [type(model).__name__]
    config.dtype = torch.float32
    config.save_pretrained(folder)
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    note = {"file": file.name, "quantisation": quantisation(metadata), "warnings": warnings, "reading": READING}
    (folder / _NOTE).write_text(json.dumps(note), encoding="utf-8")


def _auto_class(config: PreTrainedConfig) -> Any:  # noqa: ANN401
    """The class with a head where there is one: the reader finds the weights of some families by its names alone, and
    leaves those of a headless model as they were drawn.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModel, AutoModelForCausalLM

    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel


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


@contextmanager
def _gguf_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except LayerscopeError:
        raise
    except ImportError as error:
        package = "accelerate" if "accelerate" in str(error) else "gguf"
        raise missing_package(package, f"loading {file.name}") from error
    except Exception as error:  # the readers raise whatever a damaged byte leads to
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "not supported" in text or isinstance(error, NotImplementedError):
            raise UnsupportedModelError(
                f"transformers cannot read {file.name}: {text.rstrip('.')}; use the model's safetensors checkpoint"
            ) from error
        raise UserError(f"{file} cannot be read as a GGUF model ({text}): download it again") from error
