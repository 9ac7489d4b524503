"""What a GGUF file says beside its weights, read whole, so that nothing in it goes unnoticed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerscope.errors import UnsupportedModelError

# Long, and read by the tokenizer's own reader.
_LISTS = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.scores")
FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
"""The tensors that divide rotary frequencies."""


@dataclass(frozen=True)
class GgufMetadata:
    """The metadata of a GGUF file, the names of its tensors, and the tensors that divide rotary frequencies."""

    architecture: str
    values: dict[str, Any]
    tensors: tuple[str, ...]
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """The value of ARCHITECTURE.name."""
        return self.values.get(f"{self.architecture}.{name}", default)

    def own(self) -> dict[str, Any]:
        """The values whose keys start with the architecture, without it."""
        prefix = f"{self.architecture}."
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}

    def quantisation(self) -> str:
        """The quantisation the file states for itself, as "Q4_1", or "unknown" where it states none."""
        import gguf

        try:
            name = str(gguf.LlamaFileType(int(self.values["general.file_type"])).name)
        except (KeyError, ValueError):
            return "unknown"
        return name.removeprefix("MOSTLY_")

    def refusal(self, name: str, why: str) -> UnsupportedModelError:
        """The error for a key or tensor that changes what the model computes and cannot be taken over."""
        key = name if name.endswith(".weight") else f"{self.architecture}.{name}"
        return UnsupportedModelError(
            f"{key} of the GGUF file cannot be taken over ({why}): use the model's safetensors checkpoint"
        )


def read_metadata(file: Path) -> GgufMetadata:
    """Read all metadata of a GGUF file but the long lists of its tokenizer, of which only their being there is kept."""
    import gguf

    reader = gguf.GGUFReader(file)
    fields = {key: entry for key, entry in reader.fields.items() if not key.startswith("GGUF.")}
    values = {key: True if key in _LISTS else entry.contents() for key, entry in fields.items()}
    frequencies = {
        tensor.name: tuple(gguf.dequantize(tensor.data, tensor.tensor_type).ravel().tolist())
        for tensor in reader.tensors
        if tensor.name in {FREQS, LONG, SHORT}
    }
    names = tuple(tensor.name for tensor in reader.tensors)
    return GgufMetadata(str(values.get("general.architecture", "")), values, names, frequencies)
