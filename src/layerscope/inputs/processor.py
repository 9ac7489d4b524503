"""Where and in which precision a model runs: device, dtype, and the probe for faster float32 products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from layerscope.config import Dtype
from layerscope.errors import UserError

FAST_MATMUL_ERROR = 1e-5
HALF = (torch.bfloat16, torch.float16)
_PROBE_SIZE = 256


def choose_device(name: str) -> torch.device:
    """The device asked for, or the best one for `auto`; a UserError where it is no device, or this machine has none."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = None
    with contextlib.suppress(RuntimeError):
        device = torch.device(name)
    if device is None or device.type not in {"cpu", "cuda", "mps"}:
        raise UserError(f"expected a device like cpu, cuda, cuda:1, mps or auto, got {name!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device {name!r} was asked for but this machine has {count} CUDA devices: use cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' was asked for but this machine has none: use cpu or auto")
    return device


def choose_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """The precision asked for; `auto` is bfloat16 where the processor multiplies it in hardware, else float32."""
    if name != "auto":
        named: torch.dtype = getattr(torch, name)
        return named
    return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return False
    # mkldnn's own test says yes to emulation, which is slower than float32: ask for the instructions themselves.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set torch's float32 product precision inside the block and restore what was there before."""
    before = torch.get_float32_matmul_precision()
    if before != precision:
        torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        if before != precision:
            torch.set_float32_matmul_precision(before)


def fast_matmul_error(device: torch.device) -> float:
    """The relative error of a float32 product at precision "medium", against float64.

    "medium" permits bfloat16 products: on some processors it only changes the library (an error near 1e-7), on others
    it costs three digits. Only a measurement tells which.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(_PROBE_SIZE, _PROBE_SIZE, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    with matmul_precision("medium"):
        fast = (a.to(device) @ b.to(device)).cpu().double()
    return float((fast - exact).norm() / exact.norm())


def keeps_precision(model: nn.Module) -> bool:
    """Whether a model cannot compute in float32 for a moment: quantised, spread over devices, or on kernels for halves."""
    config = getattr(model, "config", None)
    return (
        getattr(config, "quantization_config", None) is not None
        or "flash" in str(getattr(config, "_attn_implementation", None))
        or any(tensor.is_meta for tensor in model.parameters())
        or any("_hf_hook" in vars(module) for module in model.modules())
    )


@contextlib.contextmanager
def in_float32(model: nn.Module, blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Compute in float32 inside the block, from the weights as they are: those of one block of the model at a time.

    Weights are put back as the tensors they were, so nothing is rounded on the way.
    """
    inside = {id(tensor) for block in blocks for tensor in _half_tensors(block)}
    halves: dict[int, tuple[Tensor, Tensor]] = {}

    def widen(tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            halves[id(tensor)] = (tensor, tensor.data)
            tensor.data = tensor.data.float()

    def enter(block: nn.Module, _: object) -> None:
        widen(_half_tensors(block))

    def leave(*_: object) -> None:
        for key in inside & halves.keys():
            tensor, half = halves.pop(key)
            tensor.data = half

    with contextlib.ExitStack() as hooks:
        for block in blocks:
            hooks.enter_context(block.register_forward_pre_hook(enter))
            hooks.enter_context(block.register_forward_hook(leave, always_call=True))
        try:
            widen(tensor for tensor in _half_tensors(model) if id(tensor) not in inside)
            yield
        finally:
            for tensor, half in halves.values():
                tensor.data = half


def _half_tensors(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.dtype in HALF]
