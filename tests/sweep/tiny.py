"""A tiny random model of any model type that transformers knows, saved as a user's folder with a tokenizer.

Sizes are cut by what a setting is called, wherever it stands in the config; what does not fit its class after that is set
by hand in `OVERRIDES`.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

VOCAB = 320
WORDS = 260
"""Ids below this are the tokenizer's; those above are left to images, sounds and other things in a prompt."""
HEADS = 4
HEAD_DIM = 16
DIM = HEADS * HEAD_DIM
DEPTH = 3
_SECTIONS = [3, 3, 2]
CONTEXT = 64

_DEPTHS = re.compile(
    r"(num_hidden_layers|n_layers?|num_layers|depth|(num_)?(encoder|decoder)_layers|.*_num_hidden_layers|"
    r"(num_)?(t2u|text|audio|speech|temporal|entity|qformer|vision|relational|l|x|r)_?(encoder_|decoder_)?layers|"
    r"(encoder|decoder|temporal|t2u|local|global)_num_layers|n_(text|audio|vision)_layers?|num_blocks|transformer_layers)"
)
# The first that matches says how large a whole number may be.
_LIMITS: tuple[tuple[str, int], ...] = (
    (r"acoustic_tokenizer_chunk_size", 10**9),
    (r"index(er)?_n_heads", 16),  # few heads make ties among indexed tokens, and what ties give is chance
    (r"chunk_right_context|chunk_left_context", 4),
    (r"upsample_groups", DIM),
    (r".*codebook_size", 128),
    (r".*vocab_size.*|num_embeddings|.*vocab$", VOCAB),
    (r"(num_)?(kv|key_value)_heads|.*(num_key_value_heads|num_kv_heads|n_head_kv|kv_n_heads|multi_query_group_num)", 2),
    (r".*(linear_num_key_heads)", 2),
    (r".*head(s|_num)?|.*num_heads.*|.*attn_heads|.*(n_head|num_attention_heads).*", HEADS),
    (r"qk_head_dim", 2 * HEAD_DIM),
    (r".*(head_dim|d_kv|kv_channels|head_size|attention_head_size|head_width).*", HEAD_DIM),
    (r".*topk_group|n_groups?|num_groups?", 1),
    (r".*(experts?_per_tok|top_?k|topk).*|moe_k", 2),
    (r".*rotary_dim", 8),
    (r".*shared_experts", 1),
    (r".*(num|n).*experts.*", 4),
    (r".*shared_layers", 1),
    (r".*lora_rank|.*_rank|.*rank_size", 16),
    (r".*(intermediate|ffn|inner|mlp|feed_forward|d_ff|n_ff|ff_dim|fc_dim).*", 96),
    (r".*(max_position|n_positions|max_seq|context_length|n_ctx|seq_length|max_sequence).*", CONTEXT),
    (r".*(sliding|attention|local|left|right)_?window.*|attention_chunk_size|window_length", 8),
    (r".*(chunk_size|chunk_length|block_length)", 8),
    (r".*image_size|.*img_size|.*num_mel_bins|.*n_mels|input_size", 32),
    (r".*patch_size", 16),
    (r".*(state_size|d_state|state_dim)", 8),
    (r".*(hidden|d_model|n_embd|embed|embd|_dim|width|_size_per|projection).*|dim|.*channels?|d_.*", DIM),
    (r"depths|layers", 1),
    (r".*(num_queries|num_latents|n_queries|query_tokens|num_position_embeddings|image_seq_len.*|mm_tokens.*).*", 16),
)
_IDS = re.compile(r".*token(_id|_index|_idx|_ids)s?")
_OWN_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
"""Those of the tokenizer."""
_DROPPED = {"transformers_version", "id2label", "label2id", "_name_or_path", "architectures"}

_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_VOCABULARY = {"<image>": 100, "<|extra_200|>": 101, "IMGIMGA": 102, "<|visual token 000000|>": 103}
_STAGES = {"stage_names", "out_features", "out_indices", "_out_features", "_out_indices"}
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA,
    "granitemoehybrid": _MAMBA,
    "falcon_h1": _MAMBA | {"mamba_d_ssm": 128},
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2, "n_groups": 1, "chunk_size": 8},
    "chameleon": {"vocabulary_map": _VOCABULARY},
    "emu3": {"vocabulary_map": _VOCABULARY},
    "bailing_hybrid": {"n_group": 1, "num_expert_group": 1, "topk_group": 1, "num_local_experts": 4},
    "dbrx": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": 8.0},
    "deepseek_ocr2_text": {
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    "dots3_note_audio_encoder": {"adapter_input_size": DIM},
    "dots3_note_vision_encoder": {"num_experts_per_tok": 2, "router_scaling_factor": 1.0},
    "fun_asr_nano": {"adaptor_config.intermediate_size": DIM // 4},
    "lilt": {"hidden_size": 48, "intermediate_size": 96},
    "mobilebert": {"embedding_size": 32, "hidden_size": DIM, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "step3p7": {"text_config.sliding_window": 8},
    "zamba2": {
        "hybrid_layer_ids": [1, 3],
        "mamba_headdim": HEAD_DIM,
        "n_mamba_heads": 8,
        "kv_channels": HEAD_DIM,
        "chunk_size": 8,
        "attention_head_dim": 32,
        "attention_hidden_size": 2 * DIM,
        "num_hidden_layers": 4,
        "mamba_ngroups": 1,
        "num_query_groups": HEADS,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "esm": {"vocab_size": VOCAB},
    "cohere_compass_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": _SECTIONS}
        },
    },
    "cosmos3_edge_text": {"head_dim": HEAD_DIM, "rope_parameters.mrope_section": _SECTIONS},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    "dots3_note_text": {"head_dim": 2 * HEAD_DIM, "num_key_value_heads": HEADS},
    "granite4_vision": {"downsample_rate": "1/2", "deepstack_layer_map": [[-1, 0]], "spatial_target_layers": [1]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1},
    "markuplm": {"max_xpath_tag_unit_embeddings": 256, "max_xpath_subs_unit_embeddings": 1024},
    "mistral4": {"rope_parameters.partial_rotary_factor": 1.0},
    "molmo2_adapter": {"vision_feature_layer": [2, 1]},
    "molmo2": {"adapter_config.vision_feature_layer": [2, 1]},
    "musicgen": {"dropout": 0.0},
    "musicgen_melody": {"dropout": 0.0},
    "tvp": {"visual_prompt_size": 4},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_DIM,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "output_gate_type": "sigmoid",
    },
    "t5gemma2_text": {"dropout_rate": 0.0},
    "layoutlmv3": {"coordinate_size": 12, "shape_size": 8, "visual_embed": False},
    "pegasus_x": {"block_size": 8},
    "zamba": {
        "attention_hidden_size": 2 * DIM,
        "attention_head_dim": 2 * HEAD_DIM,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "glm5_next_text": {"index_topk": 16},
    "xlnet": {"d_head": HEAD_DIM, "d_inner": 96},
    "reformer": {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [8, 8]},
}
"""Settings by dotted name, for the types whose sizes hang together in a way that their names do not say."""


def tiny_config(model_type: str) -> Any:
    """The default config of a model type, cut to a few small layers; one of each kind of layer at least."""
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    return config_class.from_dict(_small(config_class().to_dict()))


def _put(options: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        options = options.setdefault(part, {})
    if value is ...:
        options.pop(path[-1], None)
    else:
        options[path[-1]] = value


def _small(settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = _kept_layers(settings)
    made: dict[str, Any] = {}
    special = WORDS
    for name, value in settings.items():
        if name in _DROPPED or ("stage_names" in settings and name in _STAGES):
            continue
        if name == "per_layer_config" and value:
            by_layer = {int(layer): each for layer, each in value.items()}
            stay = enumerate(kept[settings["num_hidden_layers"]])
            made[name] = {new: _small(by_layer[old]) for new, old in stay if old in by_layer}
        elif isinstance(value, Mapping):
            made[name] = _small(value) if all(isinstance(key, str) for key in value) else dict(value)
        elif _IDS.fullmatch(name):
            made[name], special = _ids(name, value, special)
        elif isinstance(value, (list, tuple)):
            made[name] = _short(name, list(value), kept, settings)
        elif isinstance(value, int) and not isinstance(value, bool):
            made[name] = len(kept[value]) if _DEPTHS.fullmatch(name) and value in kept else _at_most(name, value)
        else:
            made[name] = value
    _agree(made, settings)
    for name, value in OVERRIDES.get(str(settings.get("model_type")), {}).items():
        _put(made, name.split("."), value)
    return made


def _kept_layers(settings: Mapping[str, Any]) -> dict[int, list[int]]:
    """For each depth that a config names: which of its layers stay, so that every kind of layer is among them."""
    kept: dict[int, list[int]] = {}
    for name, depth in settings.items():
        if not _DEPTHS.fullmatch(name) or not isinstance(depth, int) or isinstance(depth, bool):
            continue
        chosen: list[int] = []
        for other, value in settings.items():
            if (
                isinstance(value, (list, tuple))
                and len(value) == depth
                and other.endswith(("types", "pattern", "type"))
            ):
                seen = [str(item) for item in value]
                chosen += [seen.index(kind) for kind in dict.fromkeys(seen)][:4]
        chosen += [int(layer) for layer in settings.get("per_layer_config") or ()][:1]
        size = min(depth, max(DEPTH, len(set(chosen))))
        for layer in range(depth):
            if len(set(chosen)) < size:
                chosen.append(layer)
        kept[depth] = sorted(set(chosen))
    return kept


def _ids(name: str, value: Any, special: int) -> tuple[Any, int]:
    if name in _OWN_IDS:
        return _OWN_IDS[name], special
    if isinstance(value, (list, tuple)):
        return [special + i for i in range(len(value))], special + len(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 4:
        return special, special + 1
    return value, special


def _short(name: str, value: list[Any], kept: Mapping[int, list[int]], settings: Mapping[str, Any]) -> list[Any]:
    if name == "mrope_section" or name.endswith("_section"):
        return value
    if len(value) in kept and len(value) > DEPTH:
        value = [value[layer] for layer in kept[len(value)]]
    return [_at_most(name, item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value]


def _at_most(name: str, value: int) -> int:
    if _DEPTHS.fullmatch(name):
        return min(value, DEPTH)
    if name == "vocab_size":
        return VOCAB
    for pattern, most in _LIMITS:
        if re.fullmatch(pattern, name):
            return min(value, most)
    return value


def _agree(made: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Settings that must fit each other."""
    if made.get("num_attention_heads") and made.get("hidden_size"):
        if "head_dim" in made and made["head_dim"] is None:
            made["head_dim"] = made["hidden_size"] // made["num_attention_heads"]
        if "num_key_value_heads" in made and made["num_key_value_heads"] is None:
            made["num_key_value_heads"] = made["num_attention_heads"]
    for heads, kv_heads in (("num_attention_heads", "num_key_value_heads"), ("n_head", "num_kv_heads")):
        if settings.get(heads) is not None and settings.get(heads) == settings.get(kv_heads):
            made[kv_heads] = made[heads]
    ropes = [made.get("rope_parameters"), made.get("rope_scaling")]
    ropes += [rope for each in ropes if isinstance(each, dict) for rope in each.values() if isinstance(rope, dict)]
    for rope in ropes:
        if isinstance(rope, dict) and rope.get("mrope_section"):
            rope["mrope_section"] = _sections(rope["mrope_section"], settings)
    rope = made.get("rope_parameters")
    if isinstance(rope, dict) and "rope_type" in rope and _has_sections(str(settings.get("model_type"))):
        half = int(HEAD_DIM * (rope.get("partial_rotary_factor") or 1)) // 2
        rope.setdefault("mrope_section", [half * 3 // 8, half * 3 // 8, half - 2 * (half * 3 // 8)])
    if made.get("mrope_section"):
        made["mrope_section"] = _sections(made["mrope_section"], settings)


@functools.cache
def _has_sections(model_type: str) -> bool:
    """Whether the type's code has a default of its own for the sections of a head, made for large heads."""
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return False
    folder = Path(inspect.getfile(CONFIG_MAPPING[model_type])).parent
    return any('"mrope_section", [' in file.read_text() for file in folder.glob("modeling_*.py"))


def _sections(sections: Iterable[int], settings: Mapping[str, Any]) -> list[int]:
    """Shares of a head's rotated half, in the same proportion."""
    given = list(sections)
    if "hidden_size" not in settings:
        return given
    head = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
    total = max(len(given), round(sum(given) * HEAD_DIM / head))
    small = [max(1, math.floor(total * part / sum(given))) for part in given]
    small[0] += total - sum(small)
    return small


_HEADLESS = {"blip", "flava", "seamless_m4t", "seamless_m4t_v2"}
"""Types whose checkpoints hold more than the class with a head for text."""
_HEADS = (
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING",
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_MAPPING",
)


def model_class(config: Any) -> type[Any] | None:
    """The class that AutoModel makes of a config."""
    from transformers.models.auto import modeling_auto

    if type(config) not in modeling_auto.MODEL_MAPPING:
        return None
    try:
        found = modeling_auto.MODEL_MAPPING[type(config)]
    except (KeyError, ValueError):
        return None
    return found[0] if isinstance(found, tuple) else found


def headed_class(config: Any) -> type[Any]:
    """The class that checkpoints of this type are saved from: with its language model head where there is one."""
    from transformers.models.auto import modeling_auto

    for name in _HEADS if config.model_type not in _HEADLESS else _HEADS[-1:]:
        mapping = getattr(modeling_auto, name)
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple) else found
    found = model_class(config)
    assert found is not None
    return found


def tiny_model(config: Any, *, seed: int = 0, spread: float = 0.2) -> Any:
    """A random model in eval mode, with weights large enough for every layer to change what it is given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = headed_class(config)._from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            # A state-space model's decay rates have a meaning of their own, and tables of sines are not trained.
            if not (tensor.is_floating_point() and tensor.requires_grad) or name.endswith(
                ("A_log", "dt_bias", "time_decay", "time_first", "Lambda")
            ):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim >= 2:
                tensor.copy_(noise * spread)
            else:
                tensor.add_(noise * 0.1)
    return model.requires_grad_(False)


def save_tokenizer(folder: Path) -> None:
    """Every byte a token, as in the vocabularies that most families share; 0 to 3 are special and put around nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "<s>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def model_types() -> list[str]:
    """Every model type that transformers has a config for."""
    from transformers import CONFIG_MAPPING

    return sorted(CONFIG_MAPPING.keys())
