"""Tables of Wan's autoencoders: diffusers' own keys and shapes, the original's, exact both ways."""

import json

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.weights.table import walk
from tests.models import random_weights

NORMAL = {"z_dim": 4, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "num_res_blocks": 1}
# diffusers' arguments.
TINY = {
    "2.1": {**NORMAL, "base_dim": 4, "dim_mult": [1, 2, 3, 3]},
    "2.2": {
        **NORMAL,
        "base_dim": 4,
        "decoder_base_dim": 6,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
    },
}
# Some of the published original keys, with shapes.
ORIGINAL = {
    "wan2.1-vae": {
        "conv1.weight": (32, 32, 1, 1, 1),
        "conv2.weight": (16, 16, 1, 1, 1),
        "encoder.conv1.weight": (96, 3, 3, 3, 3),
        "encoder.downsamples.0.residual.0.gamma": (96, 1, 1, 1),
        "encoder.downsamples.2.resample.1.weight": (96, 96, 3, 3),
        "encoder.downsamples.3.shortcut.weight": (192, 96, 1, 1, 1),
        "encoder.downsamples.5.time_conv.weight": (192, 192, 3, 1, 1),
        "encoder.downsamples.10.residual.6.weight": (384, 384, 3, 3, 3),
        "encoder.middle.1.norm.gamma": (384, 1, 1),
        "encoder.head.2.weight": (32, 384, 3, 3, 3),
        "decoder.middle.1.to_qkv.weight": (1152, 384, 1, 1),
        "decoder.upsamples.3.resample.1.weight": (192, 384, 3, 3),
        "decoder.upsamples.3.time_conv.weight": (768, 384, 3, 1, 1),
        "decoder.upsamples.4.shortcut.weight": (384, 192, 1, 1, 1),
        "decoder.upsamples.11.resample.1.bias": (96,),
        "decoder.upsamples.14.residual.2.weight": (96, 96, 3, 3, 3),
        "decoder.head.0.gamma": (96, 1, 1, 1),
        "decoder.head.2.weight": (3, 96, 3, 3, 3),
    },
    "wan2.2-vae": {
        "conv1.weight": (96, 96, 1, 1, 1),
        "encoder.conv1.weight": (160, 12, 3, 3, 3),
        "encoder.downsamples.0.downsamples.2.resample.1.weight": (160, 160, 3, 3),
        "encoder.downsamples.1.downsamples.0.shortcut.weight": (320, 160, 1, 1, 1),
        "encoder.downsamples.2.downsamples.2.time_conv.weight": (640, 640, 3, 1, 1),
        "encoder.downsamples.3.downsamples.1.residual.6.bias": (640,),
        "decoder.conv1.weight": (1024, 48, 3, 3, 3),
        "decoder.middle.1.to_qkv.weight": (3072, 1024, 1, 1),
        "decoder.upsamples.0.upsamples.3.time_conv.weight": (2048, 1024, 3, 1, 1),
        "decoder.upsamples.2.upsamples.0.shortcut.weight": (512, 1024, 1, 1, 1),
        "decoder.upsamples.2.upsamples.3.resample.1.weight": (512, 512, 3, 3),
        "decoder.upsamples.3.upsamples.0.shortcut.weight": (256, 512, 1, 1, 1),
        "decoder.head.2.weight": (12, 256, 3, 3, 3),
    },
}
COUNTS = {"wan2.1-vae": (126_892_531, 194), "wan2.2-vae": (704_688_668, 196)}


def tiny(name: str):
    """(diffusers' model, its state dict)."""
    import diffusers

    model = diffusers.AutoencoderKLWan(**TINY[name])
    random_weights.randomise(model, seed=1)
    return model, random_weights.state_arrays(model)


def shapes_of(kind: str, config) -> dict[str, tuple[int, ...]]:
    entry = weights.CHECKPOINTS[kind]
    shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(config))}
    return {
        key: row.source_shape(shapes[row.path])
        for row in entry.table(config).rows
        for key in row.keys()
    }


@pytest.mark.parametrize("name", TINY)
def test_files_of_both_namings_are_exact(name, tmp_path):
    """From diffusers' folder to ours, to the original naming, and back."""
    model, state = tiny(name)
    model.save_pretrained(tmp_path)
    found = weights.identify(tmp_path)
    assert (found.name, found.preset) == ("wan_vae_diffusers", None)
    params = weights.load(None, tmp_path)
    back = weights.export("wan_vae_diffusers", params, found.config)
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)
    original = weights.export("wan_vae", params, found.config)
    assert len(original) == len(state)
    assert sorted(v.size for v in original.values()) == sorted(v.size for v in state.values())
    again = dict(walk(weights.port("wan_vae", original, found.config)))
    for path, leaf in walk(params):
        np.testing.assert_array_equal(again[path], leaf)


@pytest.mark.parametrize("preset", COUNTS)
def test_published_sizes(preset):
    """Keys, shapes and counts of the full-size models; nothing is allocated."""
    import diffusers
    import torch

    config = weights.PRESETS[preset]
    ours = shapes_of("wan_vae", config)
    assert (sum(int(np.prod(s)) for s in ours.values()), len(ours)) == COUNTS[preset]
    assert ORIGINAL[preset].items() <= ours.items()
    content = weights.config_to_json(config)
    with torch.device("meta"):
        model = diffusers.AutoencoderKLWan.from_config(
            {k: v for k, v in content.items() if k[0] != "_"}
        )
    theirs = {key: tuple(t.shape) for key, t in model.state_dict().items()}
    assert shapes_of("wan_vae_diffusers", config) == theirs


def test_a_file_without_config_is_known_by_its_shapes(tmp_path, monkeypatch):
    import torch

    from tavid_jax.weights import identified

    model, _ = tiny("2.1")
    model.save_pretrained(tmp_path / "diffusers")
    config = weights.config_from_json(tmp_path / "diffusers")
    params = weights.load(None, tmp_path / "diffusers")
    state = weights.export("wan_vae", params, config)
    file = tmp_path / "Wan2.1_VAE.pth"
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, file)
    presets = {**weights.PRESETS, "tiny": config}
    monkeypatch.setattr(identified, "PRESETS", presets)
    found = weights.identify(file)
    assert (found.name, found.config) == ("wan_vae", config)
    monkeypatch.undo()
    with pytest.raises(weights.WeightsError, match="shapes are those of no published model"):
        weights.identify(file)


def test_config_json_of_other_models_is_refused(tmp_path):
    content = weights.config_to_json(weights.PRESETS["wan2.2-vae"])

    def read(**changes):
        (tmp_path / "config.json").write_text(json.dumps({**content, **changes}))
        return weights.config_from_json(tmp_path)

    assert read(decoder_base_dim=None).decoder_dim == 160
    with pytest.raises(weights.WeightsError, match=r"attn_scales: \[0.5\], supported is \[\]"):
        read(attn_scales=[0.5])
    with pytest.raises(weights.WeightsError, match="in_channels: 3, supported is 12"):
        read(in_channels=3)
    with pytest.raises(weights.WeightsError, match="48 values of latent_mean for 16 latent"):
        read(z_dim=16)
