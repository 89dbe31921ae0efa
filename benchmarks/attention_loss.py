"""What TAViD's loss on attention adds to a training step: time, memory and counted operations.

    python benchmarks/attention_loss.py [--layers 12] [--heads 4]

A low-rank training step of a CogVideoX of 4,212 video tokens in 13 latent frames, a frame's share
of them as at full size; a sixth of the blocks is led, as 7 of 42 are. Steps with and without the
loss take turns.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from timing import compile_program, environment, mib, table, time_side_by_side

from tavid_jax.methods.tavid.attention import AttentionLoss, Blocks
from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.ports import Ports
from tavid_jax.parallel import flops


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=4, help="of 64 channels")
    parser.add_argument("--frames", type=int, default=13, help="latent ones")
    parser.add_argument("--side", type=int, default=18, help="tokens along height and width")
    parser.add_argument("--text", type=int, default=226, help="text tokens")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def step_of(args: argparse.Namespace, directions: tuple[str, ...]):
    """(gradient of a training loss, its arguments); without a direction no loss on attention."""
    config = CogVideoXConfig(
        num_heads=args.heads,
        num_layers=args.layers,
        text_dim=64,
        text_length=args.text,
        time_embed_dim=64,
        sample_hw=(2 * args.side, 2 * args.side),
        extra_channels=1,
    )
    rules = (LoraRule("blocks/attn/(q|k|v|o)", rank=16),)
    model = CogVideoX(config, lora=rules, remat="full")
    rng = np.random.default_rng(0)
    grid = (1, args.frames, 2 * args.side, 2 * args.side)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    x, mask = draw(*grid, config.in_channels), (draw(*grid, 1) > 1).astype(jnp.float32)
    text, timestep = draw(1, args.text, 64), jnp.full((1,), 500.0)
    params = model.init(jax.random.key(0), timestep, method="embed_time")["params"]
    base = {name: node for name, node in params.items() if name != "lora"}
    columns = jnp.zeros((1, 1, args.text)).at[0, 0, 9].set(1.0)
    aim = (draw(1, 1, args.side**2) > 1).astype(jnp.float32)
    led = range(1, args.layers, 6)

    def loss(adapters):
        variables = {"params": {**base, "lora": adapters}}
        probe = None
        for direction in directions:
            how = AttentionLoss(direction=direction, blocks=Blocks(chosen=tuple(led)))
            probe = how.probe(args.layers, columns, aim, jnp.int32(0))
        out = model.apply(
            variables, x, timestep, text, extra=mask, ports=Ports(probe=probe), method="predict"
        )
        total = jnp.mean(jnp.square(out.sample))
        return total if probe is None else total + 0.1 * out.probe["loss"].sum()

    return jax.grad(loss), (params["lora"],)


def main() -> None:
    args = parse()
    kinds = {"none": (), "V2T": ("video_to_text",), "T2V": ("text_to_video",), "both": ("both",)}
    steps = {name: step_of(args, directions) for name, directions in kinds.items()}
    programs = {name: compile_program(step, *given) for name, (step, given) in steps.items()}
    counted = {name: flops.count(step, *given).flops for name, (step, given) in steps.items()}
    seconds = time_side_by_side(programs, args.repeats)
    tokens = args.frames * args.side**2
    print(f"{environment()}; {vars(args)}, {tokens} video tokens\n")
    rows = [
        [
            name,
            f"{1000 * seconds[name]:.0f} ms",
            f"{100 * (seconds[name] / seconds['none'] - 1):+.1f} %",
            f"{100 * (counted[name] / counted['none'] - 1):+.2f} %",
            mib(programs[name].peak_bytes - programs["none"].peak_bytes),
        ]
        for name in kinds
    ]
    print(table(["loss on attention", "step", "time", "operations", "memory"], rows))


if __name__ == "__main__":
    main()
