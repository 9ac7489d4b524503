"""From a model's name to something that can be loaded: a folder on disk, or a hub id with its revision."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlparse

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError, UserError, unknown
from layerscope.files.reading import expanded, named_errors, read_json
from layerscope.inputs.gguf_files import READING, convert_gguf
from layerscope.inputs.known_models import KNOWN_MODELS
from layerscope.inputs.library_errors import said_as
from layerscope.inputs.quiet import quiet_libraries
from layerscope.inputs.revisions import find_revision, revisions, split_revision, transformer_part
from layerscope.inputs.sizes import check_numbers
from layerscope.inputs.standing import Stamp, stamp_of
from layerscope.inputs.weights import content_hash, content_hashes, listed_weights, named, weight_files
from layerscope.inputs.zoo_models import ZOO_MODELS

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_READ_AS = re.compile(r"\+reading:\d+")

OnDisk = Callable[[Path, ModelSpec, str], "Checkpoint"]
"""What is made of a folder or .gguf file on disk, and of what is to be said about it."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a model is loaded from."""

    source: str
    revision: str
    hub: bool = False
    warnings: tuple[str, ...] = ()
    weights: str = ""
    """sha256 of the weight files alone: two checkpoints with equal ones are one model. "" where they are not here yet."""
    files: Mapping[Path, Stamp] = field(default_factory=dict)
    """The weight files as they were before the hash was taken."""

    @property
    def options(self) -> dict[str, object]:
        """What `from_pretrained` is told beside the source."""
        return {"revision": self.revision} if self.hub else {}


def find_checkpoint(spec: ModelSpec) -> Checkpoint:
    """The checkpoint that `spec.name` stands for.

    Raises:
        UserError: no such name, folder, file or hub id; a package is missing; weights are missing, damaged or pickled.
    """
    with named_errors(Path(spec.name)):
        return _find(spec, _from_disk)


def identify_checkpoint(spec: ModelSpec) -> Checkpoint:
    """`find_checkpoint` for its revision alone: files are hashed and not looked into, and nothing is converted.

    Its `source` is the folder or .gguf file itself.

    Raises:
        UserError: it is not there any more, or the hub cannot be asked.
    """
    with named_errors(Path(spec.name)):
        return _find(spec, _identified)


def _find(spec: ModelSpec, on_disk: OnDisk) -> Checkpoint:
    known = KNOWN_MODELS.get(spec.name)
    if known is not None:
        path = known.locate(spec.name)
        return on_disk(path, spec, known.note)
    name, revision = split_revision(spec.name)
    if name in ZOO_MODELS:
        return _from_revision(on_disk(ZOO_MODELS[name].locate(name, revision), spec, ""), spec, asked=revision)
    path = expanded(spec.name)
    if path.exists():
        part = transformer_part(path)
        if part is not None:
            return on_disk(part, spec, "")
        inside = path.is_dir() and not (path / "config.json").is_file() and revisions(path)
        if inside:
            return _from_revision(on_disk(find_revision(path, spec.name, None), spec, ""), spec)
        return on_disk(path, spec, "")
    base = expanded(name)
    # A local folder without checkpoints may be a copy of a hub model, whose revisions are on the hub.
    if revision and base.is_dir() and (revisions(base) or not _HUB_ID.fullmatch(name)):
        return _from_revision(on_disk(find_revision(base, name, revision), spec, ""), spec, asked=revision)
    if path.suffix == ".gguf" or spec.name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"no model at {path}: give a folder with a config.json, a .gguf file, or a hub id (org/name)")
    if not _HUB_ID.fullmatch(name):
        message = unknown("model", spec.name, {**KNOWN_MODELS, **ZOO_MODELS})
        raise UserError(f"{message}; or give a folder, a .gguf file, or a hub id (org/name or org/name@revision)")
    return _from_hub(name, revision or "main", spec, on_disk)


def _from_revision(found: Checkpoint, spec: ModelSpec, *, asked: str | None = None) -> Checkpoint:
    note = () if asked else (f"{spec.name} is its last checkpoint, {Path(found.source).name}",)
    return replace(found, warnings=(*found.warnings, *note))


def _from_disk(path: Path, spec: ModelSpec, note: str) -> Checkpoint:
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
        return replace(_identified(path, spec, note), warnings=pickled)
    if path.suffix != ".gguf":
        raise UserError(f"expected a model folder or a .gguf file, got {path}: give the folder that holds config.json")
    folder, made = convert_gguf(path)
    whole = made.quantisation in {"ALL_F32", "F16", "BF16"}
    stated = note or ("" if whole else f"de-quantised {made.quantisation} weights")
    warnings = ((stated,) if stated else ()) + made.warnings
    weights = named(folder.name)
    return Checkpoint(str(folder), _read_as(weights), warnings=warnings, weights=weights)


def _identified(path: Path, spec: ModelSpec, _: str) -> Checkpoint:
    if path.suffix == ".gguf" and path.is_file():
        weights = named(content_hash([path]))
        return Checkpoint(str(path), _read_as(weights), weights=weights)
    config = path / "config.json"
    if not config.is_file():
        raise UserError(f"expected a model folder with a config.json or a .gguf file, {path} is neither")
    files = listed_weights(path, allow_pickle=spec.allow_pickle)
    stamps = {file: stamp for file in files if (stamp := stamp_of(file)) is not None}
    both, alone = content_hashes([config], files)
    revision = named(both)
    code = sorted(path.glob("*.py")) if spec.trust_remote_code else []
    if code:
        revision = f"{revision}+code:{named(content_hash(code))}"
    return Checkpoint(str(path), revision, weights=named(alone), files=stamps)


def _read_as(weights: str) -> str:
    """A GGUF file's revision: the same file read in another way may be another model."""
    return f"{weights}+reading:{READING}"


def without_reading(revision: str) -> str:
    """The revision without the way a GGUF file was read."""
    return _READ_AS.sub("", revision)


def _from_hub(name: str, revision: str, spec: ModelSpec, on_disk: OnDisk) -> Checkpoint:
    """The commit a revision stands for, so that weights, config and tokenizer come from the same one.

    Offline, the cached snapshot is read as the folder it is: given the id, libraries would still ask the hub for files a
    model may have, and retry each.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE or not hub_reachable(constants.ENDPOINT):
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            folder = Path(cached).parent
            # The commit names the content: to identify a snapshot, nothing of it has to be read.
            found = Checkpoint(str(folder), "") if on_disk is _identified else on_disk(folder, spec, "")
            return replace(found, revision=folder.name)
        raise UserError(
            f"cannot load {name!r}: {constants.ENDPOINT} is not reachable and revision {revision!r} is not in the local "
            "cache; connect to the internet, or give a local folder or a name of `layerscope models`"
        )
    say = said_as(
        lambda text, _: UserError(
            f"cannot load {name!r} at revision {revision!r} from {constants.ENDPOINT} ({text[:200]}): check the name, and log "
            "in with `hf auth login` if the model is gated"
        )
    )
    with say, quiet_libraries():
        config = Path(hf_hub_download(name, "config.json", revision=revision))
    check_numbers(
        read_json(config, dict[str, object], advice="download the model again"), None, f"config.json of {name}"
    )
    return Checkpoint(name, config.parent.name, hub=True)


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
        return named(content_hash(weight_files(Path(config).parent, allow_pickle=True)))
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
