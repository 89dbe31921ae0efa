"""One compiled sampling call against a step-by-step loop, and against a context made each step.

    python benchmarks/sampling_loop.py [--batch 8] [--samples 4] [--steps 10] [--size demo|paper]

All variants integrate the same untrained TrackFlow with Euler from the same sources and give the
same latents (checked). Variants take turns, so that a busy machine slows them alike; the table
shows medians and their ratio to the compiled call.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.diffusion.solvers import integrate
from tavid_jax.diffusion.sources import draw_source
from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig, repeat_context

SIZES = {
    "demo": TrackFlowConfig(
        size_hw=(64, 64),
        patch=8,
        num_frames=17,
        latent_channels=8,
        hidden=96,
        heads=3,
        depth=6,
        use_text_cond=False,
        use_video_cond=False,
    ),
    "paper": TrackFlowConfig(),
}


def conditions(config: TrackFlowConfig, clips: int) -> dict[str, jax.Array]:
    """Random inputs of a context, in the shapes of the config."""
    shape = (clips, config.num_latent_frames, config.num_tokens)
    keys = iter(jax.random.split(jax.random.key(0), 4))
    given = {
        "history": jax.random.normal(next(keys), (*shape, config.latent_channels)),
        "history_visibility": jax.random.bernoulli(next(keys), 0.8, shape).astype(jnp.float32),
    }
    if config.use_video_cond:
        given["video"] = jax.random.normal(next(keys), (*shape, config.video_channels))
    if config.use_text_cond:
        given["text"] = jax.random.normal(next(keys), (clips, config.text_dim))
    return given


def variants(model: TrackFlow, samples: int, steps: int) -> dict[str, Callable]:
    """Name -> function (params, z0, given) -> latents at time 1."""

    def make_context(params, given):
        context = model.apply({"params": params}, **given, method=model.context)
        return repeat_context(context, samples)

    def velocity(params, context, z, t):
        return model.apply({"params": params}, z, t, context, method=model.velocity)

    @jax.jit
    def compiled(params, z0, given):
        context = make_context(params, given)
        return integrate(lambda z, t: velocity(params, context, z, t), z0, steps=steps)

    first = jax.jit(make_context)

    @jax.jit
    def euler_step(params, context, z, k):
        t = jnp.full(z.shape[:1], jnp.clip(k / steps, 1e-5, 1 - 1e-5))
        return z + velocity(params, context, z, t) / steps

    def stepwise(params, z0, given):
        context, z = first(params, given), z0
        for k in range(steps):
            z = euler_step(params, context, z, np.float32(k))
        return z

    def repeated(given):
        return jax.tree.map(lambda x: jnp.repeat(x, samples, axis=0), given)

    @jax.jit
    def recomputed_step(params, z, given, k):
        context = model.apply({"params": params}, **repeated(given), method=model.context)
        t = jnp.full(z.shape[:1], jnp.clip(k / steps, 1e-5, 1 - 1e-5))
        return z + velocity(params, context, z, t) / steps

    def recomputed(params, z0, given):
        z = z0
        for k in range(steps):
            z = recomputed_step(params, z, given, np.float32(k))
        return z

    return {
        "one compiled call, context once per clip": compiled,
        "loop of jitted steps, context once per clip": stepwise,
        "loop of jitted steps, context in each step and sample": recomputed,
    }


def measure(functions: dict[str, Callable], arguments: tuple, rounds: int):
    """Seconds of the first call and the median of `rounds` later ones, for each variant."""
    results, first, later = {}, {}, {name: [] for name in functions}
    for name, function in functions.items():
        start = time.perf_counter()
        results[name] = jax.block_until_ready(function(*arguments))
        first[name] = time.perf_counter() - start
    reference, *others = results.values()
    for other in others:
        np.testing.assert_allclose(other, reference, rtol=1e-3, atol=1e-3)
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            later[name].append(time.perf_counter() - start)
    return first, {name: statistics.median(seconds) for name, seconds in later.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="clips")
    parser.add_argument("--samples", type=int, default=4, help="samples per clip")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", choices=SIZES, default="demo")
    args = parser.parse_args()

    config = SIZES[args.size]
    model = TrackFlow(config)
    given = conditions(config, args.batch)
    # One key per sample; samples of one clip lie next to each other, as in repeat_context.
    keys = jax.random.split(jax.random.key(1), args.batch * args.samples)
    last = jnp.repeat(given["history"][:, -1], args.samples, axis=0)
    z0 = draw_source(keys, last, config.num_latent_frames)
    params = jax.jit(lambda key: model.init(key, z0[: args.batch], jnp.ones(args.batch), **given))(
        jax.random.key(2)
    )["params"]

    functions = variants(model, args.samples, args.steps)
    first, median = measure(functions, (params, z0, given), args.rounds)
    device = jax.devices()[0]
    print(
        f"{args.size}: {args.batch} clips x {args.samples} samples, latents "
        f"{'x'.join(map(str, z0.shape[1:]))}, width {config.hidden}, {config.depth} blocks, "
        f"Euler {args.steps}, float32; {device.device_kind}, {os.cpu_count()} CPUs, "
        f"jax {jax.__version__}; median of {args.rounds}\n"
    )
    print("| sampling | seconds | ratio | first call, compilation included (s) |")
    print("|---|---|---|---|")
    base = next(iter(median.values()))
    for name, seconds in median.items():
        print(f"| {name} | {seconds:.3f} | {seconds / base:.2f} | {first[name]:.1f} |")


if __name__ == "__main__":
    main()
