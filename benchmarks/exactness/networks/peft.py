"""Adapters of peft, on a tiny decoder, a tiny encoder and an MLP."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from ..case import SAMPLES, Batch, Case
from .transformers import TEXT, text, tiny

_LINEAR: dict[str, Any] = {"target_modules": ["q_proj", "v_proj", "down_proj"]}

# Method → the name of its configuration in peft, and options.
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "AdaLoRA": ("AdaLoraConfig", {"r": 2, "total_step": 10, **_LINEAR}),
    "BOFT": ("BOFTConfig", {"boft_block_size": 4, **_LINEAR}),
    "C3A": ("C3AConfig", {"block_size": 8, "target_modules": ["q_proj"]}),
    "DeLoRA": ("DeloraConfig", {"r": 2, **_LINEAR}),
    "DoRA": ("LoraConfig", {"r": 2, "use_dora": True, **_LINEAR}),
    "FourierFT": ("FourierFTConfig", {"n_frequency": 10, **_LINEAR}),
    "GraLoRA": ("GraloraConfig", {"r": 4, "gralora_k": 2, **_LINEAR}),
    "HRA": ("HRAConfig", {"r": 2, **_LINEAR}),
    "IA3": ("IA3Config", {"feedforward_modules": ["down_proj"], **_LINEAR}),
    "layer norm tuning": ("LNTuningConfig", {"target_modules": ["norm", "input_layernorm"]}),
    "LoHa": ("LoHaConfig", {"r": 2, **_LINEAR}),
    "LoKr": ("LoKrConfig", {"r": 2, **_LINEAR}),
    "LoRA": ("LoraConfig", {"r": 2, **_LINEAR}),
    "LoRA, biases and embedding": (
        "LoraConfig",
        {"r": 2, "target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["norm"]},
    ),
    "MiSS": ("MissConfig", {"r": 2, **_LINEAR}),
    "OFT": ("OFTConfig", {"oft_block_size": 4, "r": 0, **_LINEAR}),
    "prefix tuning": ("PrefixTuningConfig", {"num_virtual_tokens": 3}),
    "prompt encoder": ("PromptEncoderConfig", {"num_virtual_tokens": 3, "encoder_hidden_size": 8}),
    "prompt tuning": ("PromptTuningConfig", {"num_virtual_tokens": 3}),
    "RandLoRA": ("RandLoraConfig", {"r": 4, **_LINEAR}),
    "RoAd": ("RoadConfig", {"group_size": 8, **_LINEAR}),
    "VBLoRA": ("VBLoRAConfig", {"num_vectors": 6, "vector_length": 4, "r": 2, **_LINEAR}),
    "VeRA": ("VeraConfig", {"r": 4, "target_modules": ["q_proj", "o_proj"]}),
    "WaveFT": ("WaveFTConfig", {"n_frequency": 10, **_LINEAR}),
}

ON_AN_MLP = (
    "AdaLoRA",
    "BOFT",
    "DeLoRA",
    "DoRA",
    "FourierFT",
    "GraLoRA",
    "HRA",
    "LoHa",
    "LoKr",
    "LoRA",
    "MiSS",
    "OFT",
    "RandLoRA",
    "RoAd",
    "VeRA",
    "WaveFT",
)
ON_AN_ENCODER = ("DoRA", "IA3", "LoRA")


def cases() -> Iterator[Case]:
    """One for each adapter and kind of network."""
    for name in ADAPTERS:
        yield Case("peft", f"{name} on Llama", partial(_on_llama, name))
    for name in ON_AN_ENCODER:
        yield Case("peft", f"{name} on Bert", partial(_on_bert, name))
    for name in ON_AN_MLP:
        yield Case("peft", f"{name} on an MLP", partial(_on_an_mlp, name))


def _on_llama(name: str) -> tuple[nn.Module, Batch]:
    return _adapted(
        tiny("LlamaForCausalLM", **TEXT["LlamaModel"]), name, task_type="CAUSAL_LM"
    ), text()


def _on_bert(name: str) -> tuple[nn.Module, Batch]:
    options: dict[str, Any] = {"target_modules": ["query", "value", "output.dense"]}
    if name == "IA3":
        options["feedforward_modules"] = ["output.dense"]
    return _adapted(tiny("BertModel"), name, **options), text()


def _on_an_mlp(name: str) -> tuple[nn.Module, Batch]:
    layers = nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
    model = _adapted(nn.Sequential(*layers), name, target_modules=["0", "2"], modules_to_save=["4"])
    return model, torch.randn(SAMPLES, 12)


def _adapted(model: nn.Module, name: str, **options: Any) -> nn.Module:
    import peft

    config, own = ADAPTERS[name]
    adapted: nn.Module = peft.get_peft_model(model, getattr(peft, config)(**{**own, **options}))
    return adapted
