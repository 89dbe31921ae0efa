"""Operations of full-size backbones with condition videos, counted from shapes alone."""

import jax
import jax.numpy as jnp
import pytest

from tavid_jax.parallel.flops import count
from tavid_jax.pipelines.backbones import Geometry, make_backbone

# Name, pixel size, the autoencoder's stride, whether the first frame is given clean; video tokens.
COGVIDEOX, WAN = "cogvideox-5b-i2v", "wan2.2-ti2v-5b"
FULL_SIZE = {
    COGVIDEOX: (Geometry(49, (480, 720)), 8, False, 17550),
    WAN: (Geometry(49, (480, 832)), 16, True, 5070),
}


def evaluation(name: str, condition_videos: int, times: int = 1, scan: bool = True, **changes):
    """(backbone, shapes of the arguments of `predict`), of a latent of so many times the frames."""
    geometry, stride, first, _ = FULL_SIZE[name]
    changes["condition_videos"] = condition_videos
    # Whole scores: blocks of them round up.
    backbone = make_backbone(
        name, geometry, changes, first, stride=stride, attention="xla", scan=scan
    )
    key = jax.random.key(0)
    params = jax.eval_shape(
        lambda: backbone.model.init(key, jnp.zeros((1,)), method="embed_time")["params"]
    )
    batch = {
        name: jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype)
        for name, spec in backbone.spec().items()
    }
    video = batch["video"]
    size = (1, times * video.shape[1], *video.shape[2:])
    state = jax.ShapeDtypeStruct(size, video.dtype)
    return backbone, (params, state, jax.ShapeDtypeStruct((1,), jnp.float32), batch)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_step_that_reads_a_cache_is_half_of_one_long_sequence(name: str):
    """As published, text, video and condition are one sequence with a mask: the bare backbone's
    work on twice the video tokens. The bound is that of the condition's cache; what it costs to
    fill is less than one step."""
    backbone, (params, state, timestep, batch) = evaluation(name, condition_videos=2)
    conditions = jax.eval_shape(backbone.precompute, params, batch)
    cached = count(backbone.predict, params, state, timestep, conditions).flops
    lock_step = count(backbone.predict, params, state, timestep, batch).flops
    filling = count(backbone.precompute, params, batch).flops
    bare, shapes = evaluation(name, condition_videos=0, times=2)
    joint = count(bare.predict, *shapes).flops

    assert 0.45 * joint <= cached <= 0.51 * joint
    assert cached < lock_step < 0.95 * joint
    # In lock-step, both walks are done; Wan's text then is looked at from a cache, too.
    assert cached + filling == pytest.approx(lock_step, rel=1e-3)

    # By hand, per block: 2 operations for each of 12 D^2 weights (Wan: 8 D^2 and its wider MLP),
    # and 4 D for each pair of tokens that meet.
    c, tokens = backbone.model.config, FULL_SIZE[name][3]
    if name == COGVIDEOX:
        rows, meeting = (
            tokens + c.text_length,
            (tokens + c.text_length) * (2 * tokens + c.text_length),
        )
        weights = 12 * c.dim**2
    else:
        rows, meeting = tokens, tokens * (2 * tokens + c.text_length)
        weights = 6 * c.dim**2 + 2 * c.dim * c.ffn_dim
    by_hand = c.num_layers * (2 * rows * weights + 4 * c.dim * meeting)
    assert cached == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize(
    ("name", "of_walk", "of_step"), [(COGVIDEOX, 0.022, 0.009), (WAN, 0.03, 0.014)]
)
def test_what_the_last_block_does_for_nothing(name: str, of_walk: float, of_step: float):
    """Of the condition's last block only keys and values are needed. A loop drops the rest, a scan
    cannot: it is this share of a walk of the condition, and of a step in lock-step."""
    # Counted on two blocks, of which a loop shortens one.
    backbone, shapes = evaluation(name, 2)
    depth = backbone.model.config.num_layers
    filled = [filling(name, num_layers=2, scan=scan) for scan in (True, False)]
    waste = filled[0] - filled[1]
    assert waste <= of_walk * depth * filled[0] / 2
    assert waste <= of_step * count(backbone.predict, *shapes).flops
    assert waste >= 0.8 * filled[0] / 2  # there is something to drop


def filling(name: str, scan: bool, **changes) -> int:
    """Operations of the condition's walk."""
    backbone, (params, _, _, batch) = evaluation(name, 2, scan=scan, **changes)
    return count(backbone.precompute, params, batch).flops
