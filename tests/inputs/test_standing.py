"""What a pass changes in a model is put back, whatever it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig

from layerscope.errors import UnsupportedModelError
from layerscope.inputs.standing import SMALL_BYTES, Standing


class Part(nn.Module):
    def __init__(self, size=4):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.kind = "sparse"
        self.longest = 5
        self.cache = None
        self.config = PreTrainedConfig(chunks=3)
        self.register_buffer("freq", torch.arange(float(size)), persistent=False)
        self.kept = torch.ones(3)


def change_everything(part):
    part.kind = "full"
    part.longest = 9
    part.cache = torch.zeros(2)
    part.new = [1]
    part.inner = nn.Linear(2, 2)
    part.config.chunks = 7
    part.config.buckets = [3]
    part.freq.copy_(torch.zeros(4))
    part.kept += 1
    part.register_buffer("freq", torch.ones(9), persistent=False)
    part.register_buffer("other", torch.ones(9), persistent=False)


def test_everything_is_put_back():
    model = nn.Sequential(nn.Linear(2, 2), Part())
    part, standing = model[1], Standing(model)
    inner, freq, attributes = part.inner, part.freq, set(vars(part))
    for _ in range(2):
        with standing.one_pass():
            change_everything(part)
        assert (part.kind, part.longest, part.cache, part.config.chunks) == ("sparse", 5, None, 3)
        assert part.inner is inner
        assert part.freq is freq
        assert part.freq.tolist() == [0, 1, 2, 3]
        assert part.kept.tolist() == [1, 1, 1]
        assert set(vars(part)) == attributes
        assert not hasattr(part.config, "buckets")
        assert [name for name, _ in model.named_buffers()] == ["1.freq"]
    assert standing.switched == {"1.kind", "1.longest", "1.new", "1.inner", "config.chunks", "config.buckets"}


def test_tensors_and_equal_values_are_no_switch():
    model = Part()
    standing = Standing(model)
    with standing.one_pass():
        model.cache = torch.zeros(2)
        model.longest = int("5")
        model.freq.mul_(2)
    assert standing.switched == set()
    assert model.cache is None


def test_hooks_and_private_attributes_are_left_alone():
    model = nn.Sequential(Part())
    standing = Standing(model)
    with standing.one_pass():
        model[0]._installed = True
        handle = model[0].register_forward_hook(lambda *_: None)
        model[0].kind = "full"
    assert model[0]._installed
    assert len(model[0]._forward_hooks) == 1
    assert model[0].kind == "sparse"
    handle.remove()


def test_a_pass_that_fails_is_put_back_too():
    model = Part()

    def fail():
        model.kind = "full"
        raise KeyError

    with pytest.raises(KeyError), Standing(model).one_pass():
        fail()
    assert model.kind == "sparse"


@pytest.mark.parametrize("name", ["inner.weight", "freq"])
@torch.no_grad()
def test_what_there_is_no_copy_of_is_refused(name):
    model = Part(size=SMALL_BYTES // 4 + 1)
    standing = Standing(model)
    with pytest.raises(UnsupportedModelError, match=f"a forward pass overwrites its {name}"), standing.one_pass():
        (model.freq if name == "freq" else model.inner.weight).mul_(1)


@torch.no_grad()
def test_weights_may_change_between_passes():
    model = Part()
    standing = Standing(model)
    model.inner.weight.mul_(2)
    with standing.one_pass():
        model.kind = "full"
    assert model.kind == "sparse"


def test_tensors_made_for_inference_only_cannot_change():
    with torch.inference_mode():
        model = Part()
    with Standing(model).one_pass():
        model.kind = "full"
    assert model.kind == "sparse"
