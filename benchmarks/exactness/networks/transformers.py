"""Tiny models of transformers: hidden size 32, two layers, padded samples of unlike lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..case import SAMPLES, Batch, Case

LENGTH = 8
WORDS = 100
PIXELS = 32

Options = dict[str, Any]

_COMMON: Options = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": WORDS,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
_GROUPED: Options = {"num_key_value_heads": 2, "head_dim": 8}
_EXPERTS: Options = {
    **_GROUPED,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "experts_implementation": "eager",  # the fused kernel has no float64
}
_BOTH: Options = {  # encoder and decoder
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "decoder_start_token_id": 1,
}
_T5: Options = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_VISION: Options = {"image_size": PIXELS, "patch_size": 8}
_STAGES: Options = {
    "num_attention_heads": None,
    "image_size": PIXELS,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "embed_dim": 16,
}
_WAVE: Options = {
    "conv_dim": [16, 16],
    "conv_kernel": [5, 3],
    "conv_stride": [3, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
_NO_TIME_MASK: Options = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}

TEXT: dict[str, Options] = {
    # encoders
    "AlbertModel": {"embedding_size": 16},
    "BertModel": {},
    "BigBirdModel": {"attention_type": "original_full"},
    "CLIPTextModel": {},
    "ConvBertModel": {"embedding_size": 16, "conv_kernel_size": 3},
    "DebertaModel": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DebertaV2Model": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DistilBertModel": {"hidden_dim": 64},
    "ElectraModel": {"embedding_size": 16},
    "EsmModel": {"position_embedding_type": "rotary", "mask_token_id": 3},
    "FunnelModel": {
        "num_hidden_layers": None,
        "block_sizes": [1, 1],
        "d_model": 32,
        "n_head": 4,
        "d_head": 8,
        "d_inner": 64,
    },
    "MobileBertModel": {"embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "ModernBertModel": {"global_attn_every_n_layers": 2, "local_attention": 4},
    "MPNetModel": {},
    "NystromformerModel": {"num_landmarks": LENGTH, "segment_means_seq_len": LENGTH},
    "RemBertModel": {"input_embedding_size": 16, "output_embedding_size": 16},
    "RobertaModel": {},
    "RoFormerModel": {"embedding_size": 16},
    "SiglipTextModel": {},
    "SqueezeBertModel": {"embedding_size": 32},
    "XLMModel": {},
    "XLNetModel": {
        "max_position_embeddings": None,
        "d_head": 8,
        "d_inner": 64,
        "use_mems_eval": False,
    },
    # decoders
    "BioGptModel": {},
    "BloomModel": {},
    "CodeGenModel": {"rotary_dim": 4},
    "CTRLModel": {"dff": 64},
    "DeepseekV3Model": {
        **_EXPERTS,
        "num_key_value_heads": 4,
        "head_dim": 4,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
    },
    "FalconModel": {"alibi": True},
    "FalconMambaModel": {"state_size": 4},
    "GemmaModel": _GROUPED,
    "Gemma2Model": {**_GROUPED, "sliding_window": 6},
    "Gemma3TextModel": {**_GROUPED, "sliding_window": 6},
    "GPT2Model": {"n_inner": 64},
    "GPTBigCodeModel": {},
    "GPTJModel": {"rotary_dim": 4},
    "GPTNeoModel": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "GPTNeoXModel": {},
    "GptOssModel": _EXPERTS,
    "GraniteMoeModel": _EXPERTS,
    "LlamaModel": _GROUPED,
    "MambaModel": {"state_size": 4},
    "Mamba2Model": {"state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4},
    "MistralModel": _GROUPED,
    "MixtralModel": _EXPERTS,
    "MptModel": {"max_seq_len": 64},
    "Olmo2Model": _GROUPED,
    "OPTModel": {"ffn_dim": 64, "word_embed_proj_dim": 16},
    "Phi3Model": _GROUPED,
    "PhiModel": {},
    "Qwen2Model": _GROUPED,
    "Qwen2MoeModel": {**_EXPERTS, "shared_expert_intermediate_size": 16},
    "Qwen3Model": _GROUPED,
    "Qwen3MoeModel": _EXPERTS,
    "RecurrentGemmaModel": {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 6},
    "StableLmModel": _GROUPED,
}

SEQUENCE_TO_SEQUENCE: dict[str, Options] = {
    "BartModel": _BOTH,
    "BlenderbotModel": _BOTH,
    "LongT5Model": {**_T5, "local_radius": 3, "global_block_size": 2},
    "M2M100Model": _BOTH,
    "MarianModel": _BOTH,
    "PegasusModel": _BOTH,
    "SwitchTransformersModel": {**_T5, "num_experts": 2, "expert_capacity": 64},
    "T5Model": _T5,
    "UMT5Model": _T5,
}

IMAGES: dict[str, Options] = {
    "BeitModel": {**_VISION, "use_relative_position_bias": True},
    "CLIPVisionModel": _VISION,
    "ConvNextModel": {"depths": [1, 1], "hidden_sizes": [16, 32], "num_stages": 2},
    "ConvNextV2Model": {"depths": [1, 1], "hidden_sizes": [16, 32], "num_stages": 2},
    "CvtModel": {"embed_dim": [16, 32, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]},
    "Dinov2Model": _VISION,
    "FocalNetModel": {**_STAGES, "focal_levels": [1, 1], "focal_windows": [3, 3]},
    "HieraModel": {
        "image_size": [PIXELS, PIXELS],
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "num_query_pool": 1,
        "masked_unit_size": [4, 4],
    },
    "LevitModel": {
        "image_size": 64,
        "hidden_sizes": [16, 24, 32],
        "num_attention_heads": [2, 2, 2],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "MobileViTModel": {
        "image_size": PIXELS,
        "hidden_sizes": [16, 24, 32],
        "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
    },
    "PoolFormerModel": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]},
    "PvtV2Model": {
        "image_size": PIXELS,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 24, 32],
        "num_attention_heads": [1, 2, 2, 4],
    },
    "ResNetModel": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
    "SegformerModel": {
        "num_attention_heads": [1, 2, 2, 4],
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
    },
    "SiglipVisionModel": _VISION,
    "SwinModel": {**_STAGES, "window_size": 4, "patch_size": 2},
    "Swinv2Model": {**_STAGES, "window_size": 4, "patch_size": 2},
    "ViTModel": _VISION,
    "VideoMAEModel": {**_VISION, "num_frames": 4},
}

AUDIO: dict[str, Options] = {
    "ASTModel": {"max_length": 24, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 8},
    "HubertModel": {**_WAVE, **_NO_TIME_MASK},
    "SEWModel": {**_WAVE, **_NO_TIME_MASK, "squeeze_factor": 2},
    "Speech2TextModel": {**_BOTH, "input_feat_per_channel": 16, "conv_channels": 16},
    "Wav2Vec2Model": {**_WAVE, **_NO_TIME_MASK},
    "Wav2Vec2BertModel": {**_NO_TIME_MASK, "feature_projection_input_dim": 16},
    "WavLMModel": {**_WAVE, **_NO_TIME_MASK},
    "WhisperModel": {**_BOTH, "num_mel_bins": 16, "max_source_positions": 12},
}

SERIES: dict[str, Options] = {
    "PatchTSTModel": {"num_input_channels": 3, "context_length": 24, "d_model": 32, "ffn_dim": 64},
    "PatchTSMixerModel": {"num_input_channels": 3, "context_length": 24, "d_model": 32},
}


def cases() -> Iterator[Case]:
    """One for each model."""
    kinds: list[tuple[dict[str, Options], Callable[[str], Batch]]] = [
        (TEXT, lambda name: text()),
        (SEQUENCE_TO_SEQUENCE, lambda name: {**text(), "decoder_input_ids": _words(5)}),
        (IMAGES, _images),
        (AUDIO, _audio),
        (SERIES, lambda name: {"past_values": torch.randn(SAMPLES, 24, 3)}),
    ]
    for models, batch in kinds:
        for name, options in models.items():
            yield Case("transformers", name, partial(_build, name, options, batch))


def _build(name: str, options: Options, batch: Callable[[str], Batch]) -> tuple[nn.Module, Batch]:
    return tiny(name, **options), batch(name)


def tiny(name: str, **options: Any) -> nn.Module:
    """A model of the class of that name with random weights; None leaves an option as it is."""
    import transformers

    model_class = getattr(transformers, name)
    chosen = {key: value for key, value in {**_COMMON, **options}.items() if value is not None}
    model: nn.Module = model_class(model_class.config_class(**chosen))
    return model


def text() -> dict[str, Tensor]:
    """Sentences of unlike lengths, padded on the right."""
    lengths = torch.tensor([LENGTH, 4, LENGTH - 1, 5, 3])
    mask = torch.arange(LENGTH) < lengths[:, None]
    return {"input_ids": _words(LENGTH) * mask, "attention_mask": mask.long()}


def _words(length: int) -> Tensor:
    return torch.randint(4, WORDS, (SAMPLES, length))


def _images(name: str) -> Batch:
    pixels = 64 if name == "LevitModel" else PIXELS
    frames = (4,) if name == "VideoMAEModel" else ()
    return {"pixel_values": torch.randn(SAMPLES, *frames, 3, pixels, pixels)}


def _audio(name: str) -> Batch:
    decoder = {"decoder_input_ids": _words(5)}
    frames = 24
    lengths = torch.tensor([frames, 8, frames - 4, 16, 12])
    mask = (torch.arange(frames) < lengths[:, None]).long()
    match name:
        case "ASTModel":
            return {"input_values": torch.randn(SAMPLES, frames, 16)}
        case "WhisperModel":
            return {"input_features": torch.randn(SAMPLES, 16, frames), **decoder}
        case "Speech2TextModel":
            features = torch.randn(SAMPLES, frames, 16)
            return {"input_features": features, "attention_mask": mask, **decoder}
        case "Wav2Vec2BertModel":
            return {"input_features": torch.randn(SAMPLES, frames, 16), "attention_mask": mask}
        case _:  # the wave itself
            mask = mask.repeat_interleave(8, 1)
            return {"input_values": torch.randn(mask.shape) * mask, "attention_mask": mask}
