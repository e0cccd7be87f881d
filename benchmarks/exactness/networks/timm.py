"""A small member of every family of timm's image networks, on small images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from ..case import SAMPLES, Batch, Case

_THIN_VIT: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 4, "img_size": 64}

# Name → side of the image in pixels, and options that keep weights and time small.
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "beit_base_patch16_224": (64, _THIN_VIT),
    "cait_xxs24_224": (64, {"depth": 2, "img_size": 64}),
    "coat_tiny": (64, {"img_size": 64}),
    "convit_tiny": (64, {"depth": 4, "local_up_to_layer": 2, "img_size": 64}),
    "convnext_zepto_rms": (64, {}),
    "cpubone_nano": (64, {}),
    "crossvit_tiny_240": (240, {}),
    "cs3darknet_focus_s": (64, {}),
    "csatv2": (64, {}),
    "cspnext_tiny": (64, {}),
    "davit_tiny": (64, {"embed_dims": (24, 48, 96, 192), "num_heads": (1, 2, 4, 8)}),
    "deepseek_vit_412m": (56, {**_THIN_VIT, "img_size": 56}),
    "deit_tiny_patch16_224": (64, {"depth": 2, "img_size": 64}),
    "deit_tiny_distilled_patch16_224": (64, {"depth": 2, "img_size": 64}),
    "densenet121": (64, {}),
    "densenetblur121d": (64, {}),
    "dla46x_c": (64, {}),
    "dpn48b": (64, {}),
    "ecaresnet26t": (32, {}),
    "edgenext_xx_small": (64, {}),
    "efficientformer_l1": (224, {}),
    "efficientformerv2_s0": (64, {"img_size": 64}),
    "efficientnet_b0": (64, {}),
    "efficientnet_b0_gn": (64, {}),
    "efficientnet_b0_g16_evos": (64, {}),
    "efficientvim_m1": (64, {}),
    "efficientvit_b0": (64, {}),
    "efficientvit_m0": (64, {"img_size": 64}),
    "ese_vovnet19b_slim_dw": (64, {}),
    "eva02_tiny_patch14_224": (56, {"depth": 2, "img_size": 56}),
    "fasternet_t0": (64, {}),
    "fastvit_t8": (64, {}),
    "gcvit_xxtiny": (64, {"img_size": 64}),
    "gemma4_vit_167m_enc": (96, {**_THIN_VIT, "img_size": 96}),
    "ghostnet_050": (64, {}),
    "ghostnetv2_100": (64, {}),
    "ghostnetv3_050": (64, {}),
    "gmlp_ti16_224": (64, {"img_size": 64}),
    "halonet26t": (256, {}),
    "hardcorenas_b": (64, {}),
    "hgnetv2_b0": (64, {}),
    "hiera_tiny_224": (64, {"embed_dim": 24, "img_size": (64, 64)}),
    "hrnet_w18_small": (64, {}),
    "iformer_t": (64, {}),
    "inception_next_atto": (64, {}),
    "lambda_resnet26t": (64, {}),
    "lcnet_035": (64, {}),
    "lcnetv2_small": (64, {}),
    "legacy_seresnet18": (64, {}),
    "levit_128s": (64, {"img_size": 64}),
    "levit_conv_128s": (64, {"img_size": 64}),
    "lowformer_b0": (64, {}),
    "mambaout_femto": (64, {}),
    "maxvit_pico_rw_256": (64, {"img_size": 64}),
    "mnasnet_small": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "mobilenetv4_conv_small_050": (64, {}),
    "mobileone_s0": (64, {}),
    "mobilevit_xxs": (64, {}),
    "mobilevitv2_050": (64, {}),
    "mvitv2_tiny": (64, {"img_size": (64, 64)}),
    "naflexvit_base_patch16_gap": (64, {"embed_dim": 48, "depth": 2, "num_heads": 4}),
    "nest_tiny": (64, {"img_size": 64}),
    "nf_regnet_b0": (64, {}),
    "nf_resnet26": (32, {}),
    "pit_ti_224": (64, {"img_size": 64}),
    "poolformerv2_s12": (64, {}),
    "pvt_v2_b0": (64, {}),
    "qwen3_vit_88m_enc": (64, _THIN_VIT),
    "regnetx_002": (64, {}),
    "regnety_002": (64, {}),
    "repghostnet_050": (64, {}),
    "repvit_m1": (64, {}),
    "resmlp_12_224": (64, {"img_size": 64}),
    "resnest14d": (64, {}),
    "resnet10t": (64, {}),
    "resnetblur18": (64, {}),
    "resnetv2_18": (64, {}),
    "rexnet_100": (64, {}),
    "samvit_base_patch16_224": (64, {**_THIN_VIT, "global_attn_indexes": (1,)}),
    "sequencer2d_s": (64, {"layers": (1, 1, 1, 1), "img_size": 64}),
    "shvit_s1": (64, {}),
    "skresnet18": (64, {}),
    "starnet_s050": (64, {}),
    "swiftformer_xs": (64, {}),
    "swin_tiny_patch4_window7_224": (64, {"embed_dim": 24, "img_size": 64, "window_size": 4}),
    "swinv2_tiny_window8_256": (64, {"embed_dim": 24, "img_size": 64, "window_size": 4}),
    "swinv2_cr_tiny_224": (64, {"embed_dim": 24, "img_size": 64}),
    "tf_efficientnet_lite0": (64, {}),
    "tiny_vit_5m_224": (64, {}),
    "tnt_s_patch16_224": (64, {"depth": 2, "img_size": 64}),
    "twins_svt_small": (64, {"img_size": 64}),
    "visformer_tiny": (64, {"img_size": 64}),
    "vit_relpos_small_patch16_224": (64, {"depth": 2, "img_size": 64}),
    "vit_srelpos_small_patch16_224": (64, {"depth": 2, "img_size": 64}),
    "vit_tiny_patch16_224": (64, {"depth": 2, "img_size": 64}),
    "vit_tiny_r_s16_p8_224": (64, {"depth": 2, "img_size": 64}),
    "volo_d1_224": (64, {"img_size": 64}),
    "xcit_nano_12_p16_224": (64, {"depth": 2, "img_size": 64}),
}


def cases() -> Iterator[Case]:
    """One for each network."""
    for name, (pixels, options) in NETWORKS.items():
        yield Case("timm", name, partial(_build, name, pixels, options))


def _build(name: str, pixels: int, options: dict[str, Any]) -> tuple[nn.Module, Batch]:
    import timm

    model: nn.Module = timm.create_model(name, num_classes=4, **options)
    return model, torch.randn(SAMPLES, 3, pixels, pixels)
