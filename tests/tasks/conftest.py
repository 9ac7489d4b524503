"""A tiny random model that reads bytes, a plain MTEB encoder to compare with, and a cache of the test's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

DEPTH = 3


@pytest.fixture(scope="session", autouse=True)
def _mteb():
    # Importing MTEB reseeds the global generators and warns about its own dependencies.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from layerscope.tasks.process import import_quietly

        import_quietly("mteb", "`layerscope tasks`")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = ["<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=DEPTH, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    model = LlamaModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def plain_encoder(tiny):
    """plain_encoder(layer, readout): an encoder as anyone would write it, one layer, one text at a time."""
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from transformers import AutoTokenizer, LlamaModel

    model = LlamaModel.from_pretrained(tiny).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny)

    class Plain(AbsEncoder):
        def __init__(self, layer, readout):
            self.layer = layer
            self.readout = readout
            self.mteb_model_meta = ModelMeta.create_empty({"name": "a/b", "similarity_fn_name": ScoringFunction.COSINE})

        def encode(self, inputs, **_):
            return np.stack([self._vector(text) for batch in inputs for text in batch["text"]])

        @torch.no_grad()
        def _vector(self, text):
            ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)["input_ids"]
            if ids.shape[1] == 0:
                return np.zeros(16, np.float32)
            states = []
            hooks = [
                model.layers[0].register_forward_pre_hook(
                    lambda _, args, kwargs: states.append(args[0]), with_kwargs=True
                )
            ]
            hooks += [
                block.register_forward_hook(lambda _, __, output: states.append(output)) for block in model.layers
            ]
            model(ids.long())
            for hook in hooks:
                hook.remove()
            state = states[self.layer] if self.readout == "raw" else model.norm(states[self.layer])
            return state[0].mean(0).numpy()

    return Plain


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")
