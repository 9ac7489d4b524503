"""Devices, precisions and the fast products: what is asked for is given, or refused."""

from __future__ import annotations

import pytest
import torch

from layerscope.errors import UserError
from layerscope.inputs import processor
from layerscope.inputs.processor import choose_device, choose_dtype, fast_matmul_error, matmul_precision

CPU = torch.device("cpu")


def test_a_processor_is_always_there():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", ""])
def test_no_device(name):
    with pytest.raises(UserError, match="expected a device like cpu"):
        choose_device(name)


def test_devices_this_machine_lacks():
    count = torch.cuda.device_count()
    with pytest.raises(UserError, match=f"this machine has {count} CUDA devices: use cpu or auto"):
        choose_device(f"cuda:{count}")
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match="'mps' was asked for but this machine has none"):
            choose_device("mps")


def test_auto_is_bfloat16_only_where_the_processor_multiplies_it(monkeypatch):
    assert choose_dtype("float16", CPU) == torch.float16
    for has_it, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=has_it: answer)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert choose_dtype("auto", CPU) == expected


def test_matmul_precision_is_restored_whatever_happens():
    assert torch.get_float32_matmul_precision() == "highest"

    def fail():
        with matmul_precision("medium"):
            assert torch.get_float32_matmul_precision() == "medium"
            with matmul_precision("highest"):
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == "medium"
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_probe_measures_the_error_of_the_products(monkeypatch):
    before = torch.random.get_rng_state()
    assert 0 < fast_matmul_error(CPU) < 1e-2
    assert torch.equal(torch.random.get_rng_state(), before)
    plain = torch.Tensor.__matmul__

    def rounded(a, b):
        return plain(a.bfloat16(), b.bfloat16()).float() if a.dtype == torch.float32 else plain(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert fast_matmul_error(CPU) > processor.FAST_MATMUL_ERROR
