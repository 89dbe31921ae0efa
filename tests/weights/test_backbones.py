"""Tables of Wan and CogVideoX: diffusers' own keys and shapes, exact both ways, and layouts."""

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.weights.table import walk

# Tensors of the published files: (kind, tensors, elements).
PUBLISHED = {
    "cogvideox-2b": ("cogvideox", 736, 1_693_783_872),
    "cogvideox-5b": ("cogvideox", 1024, 5_570_283_072),
    "cogvideox-5b-i2v": ("cogvideox", 1025, 5_570_479_680 + 54_607_872),
    "cogvideox1.5-5b": ("cogvideox", 1024, 5_570_676_352),
    "cogvideox1.5-5b-i2v": ("cogvideox", 1028, 5_571_594_880),
    "wan2.1-t2v-1.3b": ("wan", 825, 1_418_996_800),
    "wan2.1-t2v-14b": ("wan", 1095, 14_288_491_584),
    "wan2.1-i2v-14b": ("wan", 1303, 16_394_878_784),
    "wan2.1-flf2v-14b": ("wan", 1304, 16_394_878_784 + 257 * 2 * 1280),
    "wan2.2-ti2v-5b": ("wan", 825, 4_999_787_712),
    "wan2.2-t2v-a14b": ("wan", 1095, 14_288_491_584),
    "wan2.2-i2v-a14b": ("wan", 1095, 14_288_901_184),
}


def full_size(preset: str):
    """diffusers' model of a preset with shapes only."""
    import diffusers
    import torch

    content = weights.config_to_json(weights.PRESETS[preset], "diffusers")
    family = getattr(diffusers, content["_class_name"])
    with torch.device("meta"):
        return family.from_config({k: v for k, v in content.items() if k[0] != "_"})


def table_shapes(kind: str, config) -> dict[str, tuple[int, ...]]:
    entry = weights.CHECKPOINTS[kind]
    shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(config))}
    return {
        key: row.source_shape(shapes[row.path])
        for row in entry.table(config).rows
        for key in row.keys()
    }


def test_round_trip_is_exact(tiny, tiny_name):
    kind, config, state = tiny(tiny_name)
    params = weights.port(kind, state, config)
    back = weights.export(kind, params, config)
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)
    again = dict(walk(weights.port(kind, back, config)))
    for path, leaf in walk(params):
        np.testing.assert_array_equal(again[path], leaf)


@pytest.mark.parametrize("name", ["t2v", "i2v", "flf2v"])
def test_original_naming_reads_what_it_wrote(tiny, name):
    kind, config, state = tiny(name)
    params = weights.port(kind, state, config)
    original = weights.export("wan", params, config)
    assert len(original) == len(state)
    assert "blocks.1.norm3.weight" in original and "head.head.weight" in original
    again = weights.port("wan", original, config)
    for path, leaf in walk(params):
        np.testing.assert_array_equal(dict(walk(again))[path], leaf)


def test_experts_are_two_trees(tiny):
    _, config, high = tiny("t2v", seed=1)
    _, _, low = tiny("t2v", seed=2)
    state = {f"high_noise/{k}": v for k, v in high.items()}
    state |= {f"low_noise/{k}": v for k, v in low.items()}
    params = weights.port("wan_experts_diffusers", state, config)
    assert set(params) == {"high_noise", "low_noise"}
    np.testing.assert_array_equal(params["low_noise"]["out_proj"]["bias"], low["proj_out.bias"])
    back = weights.export("wan_experts_diffusers", params, config)
    assert all(np.array_equal(back[key], value) for key, value in state.items())
    del state["low_noise/proj_out.bias"]
    with pytest.raises(weights.WeightsError, match="missing keys.*\n  low_noise/proj_out.bias"):
        weights.port("wan_experts_diffusers", state, config)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_sizes(preset):
    """Keys, shapes and counts of the full-size models; nothing is allocated."""
    kind, tensors, elements = PUBLISHED[preset]
    config = weights.PRESETS[preset]
    ours = table_shapes(kind, config)
    assert len(ours) == tensors
    assert sum(int(np.prod(shape)) for shape in ours.values()) == elements
    diffusers_kind = "wan_diffusers" if kind == "wan" else kind
    theirs = {key: tuple(t.shape) for key, t in full_size(preset).state_dict().items()}
    assert table_shapes(diffusers_kind, config) == theirs


def test_patch_rows_are_positions_then_channels(tiny):
    kind, config, state = tiny("t2v")
    kernel = np.asarray(weights.port(kind, state, config)["patch_embed"]["kernel"])
    weight = state["patch_embedding.weight"]  # (D, C, pt, ph, pw)
    row = 1 * 2 * config.in_channels + 0 * config.in_channels + 3  # (0, 1, 0), channel 3
    np.testing.assert_array_equal(kernel[row], weight[:, 3, 0, 1, 0])


def test_patches_of_two_frames(tiny):
    kind, config, state = tiny("1.5")
    params = weights.port(kind, state, config)
    weight = state["patch_embed.proj.weight"]  # (D, C*pt*ph*pw), channel slowest
    column = 2 * 8 + 1 * 4 + 0 * 2 + 1  # channel 2, position (1, 0, 1)
    row = (1 * 4 + 0 * 2 + 1) * config.in_channels + 2
    np.testing.assert_array_equal(params["patch_embed"]["kernel"][row], weight[:, column])
    out = (1 * 4 + 0 * 2 + 1) * config.out_channels + 2
    np.testing.assert_array_equal(
        params["out_proj"]["kernel"][:, out], state["proj_out.weight"][column]
    )
    assert params["out_proj"]["bias"][out] == state["proj_out.bias"][column]


def test_norm_of_image_queries_is_ignored_and_learned_table_is_not(tiny):
    kind, config, state = tiny("i2v")
    state["blocks.1.attn2.norm_added_q.weight"] = np.ones(32, np.float32)
    weights.port(kind, state, config)
    kind, config, state = tiny("5b-i2v")
    del state["patch_embed.pos_embedding"]
    with pytest.raises(weights.WeightsError, match="patch_embed.pos_embedding"):
        weights.port(kind, state, config)


def test_extra_channels_are_no_part_of_a_checkpoint(tiny):
    import dataclasses

    kind, config, state = tiny("5b")
    wider = dataclasses.replace(config, extra_channels=2)
    assert "patch_embed_extra" not in weights.port(kind, state, wider)
