"""FlexTraj's condition: as a cache, in lock-step, and as a part of one long masked sequence.

    python benchmarks/condition_cache.py [--layers 8] [--heads 6] [--repeats 9]

First, operations of one evaluation at full size, counted without running anything. The joint
sequence is the backbone on twice the video tokens. Then a CogVideoX of medium size, timed: the
peer of joint_sequence.py has the same weights and the same attention, and its output is compared
before anything is timed. Calls take turns; medians.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from joint_sequence import predict as predict_jointly
from timing import CLOCKS, compile_program, environment, mib, table, time_side_by_side

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.parallel import flops
from tavid_jax.pipelines.backbones import Backbone, CogVideoXBackbone, Geometry, make_backbone
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE

# Published name -> pixel size, the autoencoder's stride, whether the first frame is given clean.
FULL_SIZE = {
    "cogvideox-5b-i2v": (Geometry(49, (480, 720)), 8, False),
    "wan2.2-ti2v-5b": (Geometry(49, (480, 832)), 16, True),
}
STEPS = 50
JOINT = "joint sequence"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=6, help="of 64 channels")
    parser.add_argument("--frames", type=int, default=8, help="latent ones")
    parser.add_argument("--side", type=int, default=16, help="tokens along height and width")
    parser.add_argument("--text", type=int, default=226, help="text tokens")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help='"cpu" is for a busy machine'
    )
    return parser.parse_args()


# ---- counted -------------------------------------------------------------------------------------


def full_size(name: str, condition_videos: int = 2) -> Backbone:
    """A published backbone; its attention is counted whole."""
    geometry, stride, first = FULL_SIZE[name]
    changes = {"condition_videos": condition_videos}
    running = dict(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, attention="xla")
    return make_backbone(name, geometry, changes, first, stride=stride, **running)


def evaluation(backbone: Backbone) -> tuple:
    """Shapes of (parameters, noisy latent, timestep, conditions) of one video."""
    params = jax.eval_shape(
        lambda: backbone.model.init(jax.random.key(0), jnp.zeros((1,)), method="embed_time")
    )["params"]
    batch = {n: jax.ShapeDtypeStruct((1, *s.shape), s.dtype) for n, s in backbone.spec().items()}
    return params, batch["video"], jax.ShapeDtypeStruct((1,), jnp.float32), batch


def counted(name: str) -> dict[str, int]:
    """Operations of one evaluation in each form, and of the walk that fills the cache."""
    backbone = full_size(name)
    params, state, timestep, batch = evaluation(backbone)
    cached = jax.eval_shape(backbone.precompute, params, batch)

    def twice(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, 2 * x.shape[1], *x.shape[2:]), x.dtype)

    bare = full_size(name, condition_videos=0)
    bare_params, _, _, rest = evaluation(bare)
    return {
        JOINT: flops.count(
            bare.predict, bare_params, twice(state), timestep, rest | {"video": twice(state)}
        ).flops,
        "lock-step": flops.count(backbone.predict, params, state, timestep, batch).flops,
        "cache": flops.count(backbone.predict, params, state, timestep, cached).flops,
        "filling the cache": flops.count(backbone.precompute, params, batch).flops,
    }


def counts_table() -> str:
    rows = []
    for name in FULL_SIZE:
        found = counted(name)
        joint = found[JOINT]
        rows += [
            [name, form, f"{found[form] / 1e12:.0f} T", f"{found[form] / joint:.3f}"]
            for form in found
        ]
        whole = (found["filling the cache"] + STEPS * found["cache"]) / (STEPS * joint)
        rows.append([name, f"cache, {STEPS} steps with its filling", "", f"{whole:.3f}"])
    return table(["model", "condition", "operations of an evaluation", "of the joint's"], rows)


# ---- timed ---------------------------------------------------------------------------------------


def medium(args: argparse.Namespace) -> tuple[CogVideoXBackbone, dict, dict]:
    """(backbone, parameters, batch of one video)."""
    side = 2 * args.side
    config = CogVideoXConfig(
        num_heads=args.heads,
        num_layers=args.layers,
        in_channels=32,
        learned_positions=True,
        text_dim=256,
        text_length=args.text,
        sample_hw=(side, side),
        sample_frames=4 * args.frames - 3,
        condition_videos=2,
    )
    geometry = Geometry(config.sample_frames, (8 * side, 8 * side))
    backbone = CogVideoXBackbone(CogVideoX(config), geometry)
    init = jax.jit(lambda key: backbone.model.init(key, jnp.zeros((1,)), method="embed_time"))
    params = init(jax.random.key(0))["params"]
    # The fusion begins as zero.
    params["fuse"] = jax.tree.map(lambda x: x + 0.01, params["fuse"])
    rng = np.random.default_rng(0)
    batch = {
        name: jnp.asarray(rng.normal(size=(1, *spec.shape)), jnp.float32)
        for name, spec in backbone.spec().items()
    }
    return backbone, params, batch


def forms_of(backbone: CogVideoXBackbone, params: dict, batch: dict) -> dict[str, tuple]:
    """Name -> (function, *arguments)."""
    state, timestep = batch["video"], jnp.full((1,), 500.0)
    cached = jax.jit(backbone.precompute)(params, batch)

    def jointly(params, state, timestep, batch):
        control = _with_first(batch[CONTROL], batch[CONTROL_IMAGE])
        latents = _with_first(state[:, None], batch["image"][:, None])[:, 0]
        return predict_jointly(backbone.model, params, latents, timestep, batch["text"], control)

    return {
        JOINT: (jointly, params, state, timestep, batch),
        "lock-step": (backbone.predict, params, state, timestep, batch),
        "cache": (backbone.predict, params, state, timestep, cached),
        "filling the cache": (backbone.precompute, params, batch),
    }


def _with_first(videos: jax.Array, images: jax.Array) -> jax.Array:
    """Videos (B, M, F, H, W, C) with their first frame's latents in further channels."""
    behind = jnp.zeros((*images.shape[:2], videos.shape[2] - 1, *images.shape[2:]))
    channels = jnp.concatenate([images[:, :, None], behind], axis=2)
    return jnp.concatenate([videos, channels], axis=-1)


def timed_table(args: argparse.Namespace) -> str:
    forms = forms_of(*medium(args))
    programs = {name: compile_program(*form) for name, form in forms.items()}
    work = {name: flops.count(*form).flops for name, form in forms.items()}
    want = programs[JOINT].run()
    size = float(jnp.sqrt(jnp.mean(jnp.square(want))))
    seconds = time_side_by_side(programs, args.repeats, args.clock)
    rows = []
    for name, program in programs.items():
        shares = [f"{of[name] / of[JOINT]:.3f}" for of in (seconds, work)]
        row = [name, f"{1000 * seconds[name]:.0f} ms", *shares, mib(program.peak_bytes)]
        predicts = name not in (JOINT, "filling the cache")
        error = float(jnp.abs(program.run() - want).max()) / size if predicts else None
        rows.append([*row, f"{error:.1e}" if predicts else ""])
    header = ["condition", "an evaluation", "of the joint's", "of its operations", "peak"]
    return table([*header, "difference"], rows)


def main() -> None:
    args = parse()
    print(counts_table() + "\n", flush=True)
    tokens = args.frames * args.side**2
    print(f"{environment()}; {vars(args)}, {tokens} video tokens, width {64 * args.heads}\n")
    print(timed_table(args))


if __name__ == "__main__":
    main()
