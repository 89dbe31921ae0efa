"""The VAE on cells (folded) against the VAE on dense fields: time and peak memory, as ratios.

Both give the same latents and the same positions at the query pixels.

    python benchmarks/folded_vs_dense.py --height 240 --width 416 --frames 41
"""

import argparse

import jax
import jax.numpy as jnp
from timing import compile_program, environment, mib, table, time_side_by_side

from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=416)
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--frames", type=int, default=41)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--depth", type=int, default=4, help="blocks of encoder and of decoder")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def programs(args: argparse.Namespace) -> dict[str, dict[str, tuple]]:
    """Task -> {"folded" | "dense": (function, arguments)}."""
    config = TrackVAEConfig(
        size_hw=(args.height, args.width),
        patch=args.patch,
        num_frames=args.frames,
        hidden=args.hidden,
        heads=args.heads,
        encoder_depth=args.depth,
        decoder_depth=args.depth,
    )
    model = TrackVAE(config)
    shape = (args.batch, args.frames, *config.grid_hw, 2)
    cells = jax.random.uniform(jax.random.key(0), shape, minval=-1.0, maxval=1.0)
    field = cells.repeat(args.patch, axis=2).repeat(args.patch, axis=3)
    params = jax.jit(model.init)(jax.random.key(1), cells)["params"]
    latents = (args.batch, config.num_latent_frames, config.num_tokens, config.latent_channels)
    z = jax.random.normal(jax.random.key(2), latents)

    def call(method):
        return lambda p, x: model.apply({"params": p}, x, method=method)

    def train(encode, decode):
        def loss(p, x):
            posterior = model.apply({"params": p}, x, method=encode)
            recon = model.apply({"params": p}, posterior.mean, method=decode)
            return jnp.mean(jnp.square(recon - x))

        return jax.value_and_grad(loss)

    return {
        "encode": {
            "folded": (call(model.encode), params, cells),
            "dense": (call(model.encode_dense), params, field),
        },
        "decode": {
            "folded": (call(model.decode), params, z),
            "dense": (call(model.decode_dense), params, z),
        },
        "gradient": {
            "folded": (train(model.encode, model.decode), params, cells),
            "dense": (train(model.encode_dense, model.decode_dense), params, field),
        },
    }


def main() -> None:
    args = parse()
    rows = []
    for task, pair in programs(args).items():
        compiled = {name: compile_program(*program) for name, program in pair.items()}
        seconds = time_side_by_side(compiled, args.repeats)
        folded, dense = compiled["folded"].peak_bytes, compiled["dense"].peak_bytes
        rows.append(
            [
                task,
                f"{seconds['folded'] * 1e3:.1f} ms",
                f"{seconds['dense'] * 1e3:.1f} ms",
                f"{seconds['dense'] / seconds['folded']:.2f}x",
                mib(folded),
                mib(dense),
                f"{dense / folded:.1f}x",
            ]
        )
    print(f"{environment()}; {vars(args)}\n")
    header = ["task", "folded", "dense", "dense / folded time"]
    print(table([*header, "folded peak", "dense peak", "dense / folded memory"], rows))


if __name__ == "__main__":
    main()
