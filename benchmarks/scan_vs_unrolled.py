"""Depth as a scan against an unrolled loop: compile and step time, and peak memory, as ratios.

One step is the loss and its gradient. Both forms read the same parameters.

    python benchmarks/scan_vs_unrolled.py --depth 16 --remat full
"""

import argparse

import jax
import jax.numpy as jnp
from timing import compile_program, environment, mib, table, time_side_by_side

from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["vae", "flow"], choices=["vae", "flow"])
    parser.add_argument("--size", type=int, default=64, help="frame height and width")
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--remat", default="none", choices=["none", "full"])
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def vae_step(args: argparse.Namespace, scan: bool) -> tuple:
    """(step, parameters, cell tracks)."""
    config = TrackVAEConfig(
        size_hw=(args.size, args.size),
        patch=args.patch,
        num_frames=args.frames,
        hidden=args.hidden,
        heads=args.heads,
        encoder_depth=args.depth,
        decoder_depth=args.depth,
    )
    model = TrackVAE(config, scan=scan, remat=args.remat)
    shape = (args.batch, args.frames, *config.grid_hw, 2)
    cells = jax.random.uniform(jax.random.key(0), shape, minval=-1.0, maxval=1.0)
    params = jax.jit(model.init)(jax.random.key(1), cells)["params"]

    def loss(p, x):
        return jnp.mean(jnp.square(model.apply({"params": p}, x) - x))

    return jax.value_and_grad(loss), params, cells


def flow_step(args: argparse.Namespace, scan: bool) -> tuple:
    """(step, parameters, latents)."""
    config = TrackFlowConfig(
        size_hw=(args.size, args.size),
        patch=args.patch,
        num_frames=args.frames,
        hidden=args.hidden,
        heads=args.heads,
        depth=args.depth,
        use_video_cond=False,
        use_text_cond=False,
    )
    model = TrackFlow(config, scan=scan, remat=args.remat)
    shape = (args.batch, config.num_latent_frames, config.num_tokens, config.latent_channels)
    latents = jax.random.normal(jax.random.key(0), shape)
    t = jnp.linspace(0.0, 1.0, args.batch)
    params = jax.jit(model.init)(jax.random.key(1), latents, t, latents)["params"]

    def loss(p, z):
        return jnp.mean(jnp.square(model.apply({"params": p}, z, t, z) - z))

    return jax.value_and_grad(loss), params, latents


def main() -> None:
    args = parse()
    steps = {"vae": vae_step, "flow": flow_step}
    rows = []
    for name in args.models:
        forms = {"scan": True, "unrolled": False}
        compiled = {form: compile_program(*steps[name](args, scan)) for form, scan in forms.items()}
        step = time_side_by_side(compiled, args.repeats)
        compile_seconds = {
            form: program.trace_seconds + program.compile_seconds
            for form, program in compiled.items()
        }
        peak = {form: program.peak_bytes for form, program in compiled.items()}
        for what, values, shown in (
            ("trace + compile", compile_seconds, lambda v: f"{v:.2f} s"),
            ("step", step, lambda v: f"{v * 1e3:.1f} ms"),
            ("peak memory", peak, mib),
        ):
            scan, unrolled = values["scan"], values["unrolled"]
            rows.append([name, what, shown(scan), shown(unrolled), f"{unrolled / scan:.2f}x"])
    print(f"{environment()}; {vars(args)}\n")
    print(table(["model", "what", "scan", "unrolled", "unrolled / scan"], rows))


if __name__ == "__main__":
    main()
