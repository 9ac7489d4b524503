"""From a model's name to something that can be loaded: a folder on disk, or a hub id with its revision."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlparse

import torch

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError, UserError, unknown
from layerscope.files.reading import expanded, named_errors, read_json
from layerscope.inputs.gguf_files import READING, convert_gguf
from layerscope.inputs.known_models import KNOWN_MODELS, ZOO_MODELS
from layerscope.inputs.quiet import quiet_libraries, refusing
from layerscope.inputs.revisions import find_revision, revisions, split_revision, transformer_part
from layerscope.inputs.sizes import check_numbers
from layerscope.inputs.weights import as_revision, content_hash, content_hashes, listed_weights, weight_files

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# In a GGUF file's revision: the same file read in another way may be another model.
_READ_AS = f"+reading:{READING}"

OnDisk = Callable[[Path, ModelSpec], "Checkpoint"]
"""What is made of a folder or .gguf file on disk."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a model is loaded from."""

    source: str
    revision: str
    hub: bool = False
    warnings: tuple[str, ...] = ()
    weights: str = ""
    """sha256 of the weight files alone: two checkpoints with equal ones are one model. "" where they are not here yet."""
    files: Mapping[Path, os.stat_result] = field(default_factory=dict)
    """The weight files as they were before the hash was taken."""

    @property
    def options(self) -> dict[str, object]:
        """What `from_pretrained` is told beside the source."""
        return {"revision": self.revision} if self.hub else {}

    def loading(self, spec: ModelSpec, dtype: torch.dtype) -> dict[str, object]:
        """The same for a model's weights, of which no pickled ones are read unasked."""
        options = {**self.options, "dtype": dtype, "trust_remote_code": spec.trust_remote_code}
        options |= {"use_safetensors": None if spec.allow_pickle else True, "output_loading_info": True}
        return options if spec.device_map is None else options | {"device_map": spec.device_map}


def find_checkpoint(spec: ModelSpec) -> Checkpoint:
    """The checkpoint that `spec.name` stands for.

    Raises:
        UserError: no such name, folder, file or hub id; a package is missing; weights are missing, damaged or pickled.
    """
    return _find(spec, _from_disk)


def identify_checkpoint(spec: ModelSpec) -> Checkpoint:
    """`find_checkpoint` for its revision alone: files are hashed and not looked into, and nothing is converted.

    Its `source` is the folder or .gguf file. A UserError where it is not there any more, or the hub cannot be asked.
    """
    return _find(spec, _identified)


def _find(spec: ModelSpec, on_disk: OnDisk) -> Checkpoint:
    with named_errors(Path(spec.name)):
        path, last = _on_disk(spec)
        if path is None:
            return _from_hub(spec, on_disk)
        found = on_disk(path, spec)
    note = (f"{spec.name} is its last checkpoint, {path.name}",) if last else ()
    return replace(found, warnings=(*found.warnings, *note))


def _on_disk(spec: ModelSpec) -> tuple[Path | None, bool]:
    """Where the model is, None for the hub, and whether it is the last of several checkpoints, which nobody asked for."""
    if spec.name in KNOWN_MODELS:
        return KNOWN_MODELS[spec.name].locate(), False
    name, revision = split_revision(spec.name)
    if name in ZOO_MODELS:
        return ZOO_MODELS[name].locate(revision), not revision
    path, base = expanded(spec.name), expanded(name)
    if path.exists():
        last = transformer_part(path) is None and not (path / "config.json").is_file() and bool(revisions(path))
        return find_revision(path, spec.name, None) if last else transformer_part(path) or path, last
    # A local folder without checkpoints may be a copy of a hub model, whose revisions are on the hub.
    if revision and base.is_dir() and (revisions(base) or not _HUB_ID.fullmatch(name)):
        return find_revision(base, name, revision), False
    if path.suffix == ".gguf" or spec.name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"no model at {path}: give a folder with a config.json, a .gguf file, or a hub id (org/name)")
    if not _HUB_ID.fullmatch(name):
        message = unknown("model", spec.name, {**KNOWN_MODELS, **ZOO_MODELS})
        raise UserError(f"{message}; or give a folder, a .gguf file, or a hub id (org/name or org/name@revision)")
    return None, False


def _from_disk(path: Path, spec: ModelSpec) -> Checkpoint:
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            if not (path / "config.json").is_file():
                raise UserError(
                    f"{path} is an adapter, not a model: name the model it was trained on and pass this as adapter"
                )
            raise UserError(
                f"{path} holds an adapter beside a model, and transformers would put the one on the other unasked: move the "
                "adapter to a folder of its own, and pass that as adapter if you want it"
            )
        files = weight_files(path, allow_pickle=spec.allow_pickle)
        pickled = () if files[0].suffix == ".safetensors" else ("the weights were loaded from a pickle",)
        return replace(_identified(path, spec), warnings=pickled)
    if path.suffix != ".gguf":
        raise UserError(f"expected a model folder or a .gguf file, got {path}: give the folder that holds config.json")
    folder, made = convert_gguf(path)
    weights = as_revision(folder.name)
    note = KNOWN_MODELS[spec.name].note if spec.name in KNOWN_MODELS else ""
    if not note and made.quantisation not in {"ALL_F32", "F16", "BF16"}:
        note = f"de-quantised {made.quantisation} weights"
    warnings = (note, *made.warnings) if note else made.warnings
    return Checkpoint(str(folder), weights + _READ_AS, warnings=warnings, weights=weights)


def _identified(path: Path, spec: ModelSpec) -> Checkpoint:
    if path.suffix == ".gguf" and path.is_file():
        weights = as_revision(content_hash([path]))
        return Checkpoint(str(path), weights + _READ_AS, weights=weights)
    config = path / "config.json"
    if not config.is_file():
        raise UserError(f"expected a model folder with a config.json or a .gguf file, {path} is neither")
    files = listed_weights(path, allow_pickle=spec.allow_pickle)
    before = {file: file.stat() for file in files}
    both, alone = content_hashes([config], files)
    revision = as_revision(both)
    code = sorted(path.glob("*.py")) if spec.trust_remote_code else []
    if code:
        revision = f"{revision}+code:{as_revision(content_hash(code))}"
    return Checkpoint(str(path), revision, weights=as_revision(alone), files=before)


def without_reading(revision: str) -> str:
    """The revision without the way a GGUF file was read."""
    return re.sub(r"\+reading:\d+", "", revision)


def _from_hub(spec: ModelSpec, on_disk: OnDisk) -> Checkpoint:
    """The commit a revision stands for, so that weights, config and tokenizer come from the same one.

    Offline, the cached snapshot is read as the folder it is: given the id, libraries would still ask the hub for files a
    model may have, and retry each.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    name, stated = split_revision(spec.name)
    revision = stated or "main"
    if constants.HF_HUB_OFFLINE or not hub_reachable(constants.ENDPOINT):
        config = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(config, str):
            folder = Path(config).parent
            # The commit names the content: to identify a snapshot, nothing of it has to be read.
            cached = Checkpoint(str(folder), "") if on_disk is _identified else on_disk(folder, spec)
            return replace(cached, revision=folder.name)
        raise UserError(
            f"cannot load {name!r}: {constants.ENDPOINT} is not reachable and revision {revision!r} is not in the local "
            "cache; connect to the internet, or give a local folder or a name of `layerscope models`"
        )
    what = f"cannot load {name!r} at revision {revision!r} from {constants.ENDPOINT}"
    advice = "check the name, and log in with `hf auth login` if the model is gated"
    with refusing(what, advice), quiet_libraries():
        config = hf_hub_download(name, "config.json", revision=revision)
    found = read_json(Path(config), dict[str, object], advice="download the model again")
    check_numbers(found, None, f"config.json of {name}")
    return Checkpoint(name, Path(config).parent.name, hub=True)


def weights_of(checkpoint: Checkpoint) -> str:
    """The hash of a checkpoint's weight files; of a hub's, once they have been loaded and lie in the cache.

    "" where they are not found there: the hash says no more than whether two checkpoints are the same.
    """
    if not checkpoint.hub:
        return checkpoint.weights
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(checkpoint.source, "config.json", revision=checkpoint.revision)
    if not isinstance(config, str):
        return ""
    try:
        return as_revision(content_hash(weight_files(Path(config).parent, allow_pickle=True)))
    except LayerscopeError:
        return ""


def hub_reachable(endpoint: str, lookup: Callable[..., object] = socket.getaddrinfo) -> bool:
    """Whether the hub's name resolves. Asked first because the hub client retries for 23 s on a machine offline."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlparse(endpoint)
    try:
        lookup(url.hostname, url.port or 443)
    except OSError:
        return False
    return True
