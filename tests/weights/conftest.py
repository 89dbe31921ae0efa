"""Tiny published models of diffusers with random weights, and their configs here."""

import dataclasses

import numpy as np
import pytest

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.wan.config import WanConfig

_COGVIDEOX = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 3,
    "time_embed_dim": 8,
    "text_embed_dim": 24,
    "num_layers": 2,
    "sample_width": 6,
    "sample_height": 4,
    "sample_frames": 9,
    "max_text_seq_length": 5,
}
_OURS_COGVIDEOX = CogVideoXConfig(
    num_heads=2,
    head_dim=16,
    num_layers=2,
    in_channels=4,
    out_channels=3,
    time_embed_dim=8,
    text_dim=24,
    text_length=5,
    rotary=False,
    sample_frames=9,
    sample_hw=(4, 6),
)
_WAN = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 5,
    "out_channels": 3,
    "text_dim": 24,
    "freq_dim": 16,
    "ffn_dim": 48,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
_OURS_WAN = WanConfig(
    num_heads=2,
    head_dim=16,
    ffn_dim=48,
    num_layers=2,
    in_channels=5,
    out_channels=3,
    freq_dim=16,
    text_dim=24,
    max_positions=32,
)
_ROTARY = {"use_rotary_positional_embeddings": True}
_V1_5 = _ROTARY | {"patch_size_t": 2, "patch_bias": False}
_IMAGE = {"image_dim": 20, "added_kv_proj_dim": 32}
_OURS_V1_5 = {"rotary": True, "patch_size": (2, 2, 2)}

# name -> (kind of checkpoint, diffusers' arguments, our config).
TINY = {
    name: (kind, base | theirs, dataclasses.replace(mine, **ours))
    for name, kind, base, theirs, mine, ours in (
        ("2b", "cogvideox", _COGVIDEOX, {}, _OURS_COGVIDEOX, {}),
        ("5b", "cogvideox", _COGVIDEOX, _ROTARY, _OURS_COGVIDEOX, {"rotary": True}),
        (
            "5b-i2v",
            "cogvideox",
            _COGVIDEOX,
            _ROTARY | {"in_channels": 8, "use_learned_positional_embeddings": True},
            _OURS_COGVIDEOX,
            {"rotary": True, "in_channels": 8, "learned_positions": True},
        ),
        ("1.5", "cogvideox", _COGVIDEOX, _V1_5, _OURS_COGVIDEOX, _OURS_V1_5),
        (
            "1.5-i2v",
            "cogvideox",
            _COGVIDEOX,
            _V1_5 | {"ofs_embed_dim": 8},
            _OURS_COGVIDEOX,
            _OURS_V1_5 | {"ofs_dim": 8},
        ),
        ("t2v", "wan_diffusers", _WAN, {}, _OURS_WAN, {}),
        ("i2v", "wan_diffusers", _WAN, _IMAGE, _OURS_WAN, {"image_dim": 20}),
        (
            "flf2v",
            "wan_diffusers",
            _WAN,
            _IMAGE | {"pos_embed_seq_len": 10},
            _OURS_WAN,
            {"image_dim": 20, "image_tokens": 10},
        ),
    )
}


def make(name: str, seed: int = 0):
    """The tiny diffusers model of this name, every parameter random."""
    import diffusers
    import torch

    kind, arguments, _ = TINY[name]
    cogvideox = kind == "cogvideox"
    family = diffusers.CogVideoXTransformer3DModel if cogvideox else diffusers.WanTransformer3DModel
    model = family(**arguments)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def arrays(model) -> dict[str, np.ndarray]:
    """Its state dict as float32 numpy."""
    return {key: value.float().numpy() for key, value in model.state_dict().items()}


@pytest.fixture
def tiny():
    """(kind, our config, state dict) of a tiny diffusers model."""

    def build(name: str, seed: int = 0):
        kind, _, config = TINY[name]
        return kind, config, arrays(make(name, seed))

    return build


@pytest.fixture
def tiny_model():
    """The tiny diffusers model itself."""
    return make


@pytest.fixture(params=list(TINY))
def tiny_name(request) -> str:
    """Every tiny model in turn."""
    return request.param


@pytest.fixture
def base(tiny_model):
    """diffusers' tiny model, whose activations stay of size one."""
    from tests.models import random_weights

    return lambda name: random_weights.randomise(tiny_model(name), seed=2)


@pytest.fixture
def config_of(tiny):
    return lambda name: tiny(name)[1]
