"""GGUF files: de-quantised once into a safetensors folder that later runs load in a fraction of the time."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from layerscope.errors import UnsupportedModelError, UserError, missing_package
from layerscope.inputs.quiet import quiet_libraries, quiet_stderr
from layerscope.inputs.weights import content_hash, weight_files

_MAGIC = b"GGUF"
_NOTE = "gguf.json"


@dataclass(frozen=True)
class GgufFolder:
    """A GGUF file as a Hugging Face folder."""

    folder: Path
    sha256: str
    quantisation: str
    """As the file states it: "Q4_1", "F16", or "unknown"."""


def cache_folder() -> Path:
    """Where converted models are kept: LAYERSCOPE_CACHE, or ~/.cache/layerscope."""
    chosen = os.environ.get("LAYERSCOPE_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "layerscope"


def quantisation(file: Path) -> str:
    """The quantisation a GGUF file states for itself, as "Q4_1", or "unknown" where it states none."""
    import gguf

    field = gguf.GGUFReader(file).fields.get("general.file_type")
    try:
        name = str(gguf.LlamaFileType(int(field.parts[field.data[0]][0])).name) if field is not None else "unknown"
    except ValueError:
        return "unknown"
    return name.removeprefix("MOSTLY_")


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
    if folder.is_dir():
        try:
            weight_files(folder, allow_pickle=False)
            return GgufFolder(folder, sha256, json.loads((folder / _NOTE).read_text())["quantisation"])
        except (UserError, OSError, ValueError, KeyError):
            shutil.rmtree(folder)
    _write(file, folder)
    return GgufFolder(folder, sha256, quantisation(file))


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
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with _gguf_errors(file), quiet_libraries(), quiet_stderr(), torch.random.fork_rng(devices=[]):
        where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
        config = AutoConfig.from_pretrained(**where)
        model = AutoModel.from_pretrained(**where, dtype=torch.float32)
        AutoTokenizer.from_pretrained(**where, padding_side="right").save_pretrained(folder)
    config.architectures = [type(model).__name__]
    config.dtype = torch.float32
    config.save_pretrained(folder)
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / _NOTE).write_text(json.dumps({"file": file.name, "quantisation": quantisation(file)}))


@contextmanager
def _gguf_errors(file: Path) -> Iterator[None]:
    try:
        yield
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
