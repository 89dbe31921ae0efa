"""Compile time of a deep backbone: depth as a scan against an unrolled loop.

    python benchmarks/backbone_depth.py [--layers 42] [--width 64]

The program is a low-rank fine-tuning step's gradient with full rematerialisation. The width is
small: compile time depends on the number of operations, hardly on their size.
"""

import argparse

import jax
import jax.numpy as jnp
from timing import compile_program, environment, table

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.lora import LoraRule


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=42)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def compile_seconds(args: argparse.Namespace, scan: bool) -> tuple[float, float]:
    """(tracing, compiling) of the gradient, in seconds."""
    config = CogVideoXConfig(
        num_heads=args.width // 16,
        head_dim=16,
        num_layers=args.layers,
        text_dim=24,
        text_length=8,
        time_embed_dim=32,
        sample_hw=(8, 8),
    )
    rules = (LoraRule("blocks/attn/(q|k|v|o)", rank=4),)
    model = CogVideoX(config, lora=rules, scan=scan, remat="full")
    x, text = jnp.zeros((1, 3, 8, 8, 16)), jnp.zeros((1, 8, 24))
    t = jnp.zeros((1,))
    shapes = jax.eval_shape(
        lambda key: model.init(key, t, method="embed_time")["params"], jax.random.key(0)
    )
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def loss(adapters, base):
        out = model.apply({"params": {**base, "lora": adapters}}, x, t, text)
        return jnp.mean(jnp.square(out))

    base = {name: node for name, node in params.items() if name != "lora"}
    program = compile_program(jax.grad(loss), params["lora"], base)
    return program.trace_seconds, program.compile_seconds


def main() -> None:
    args = parse()
    took = {"scan": [], "unrolled": []}
    for _ in range(args.repeats):  # in turns
        for form in took:
            took[form].append(compile_seconds(args, form == "scan"))
            jax.clear_caches()
    best = {form: min(runs, key=sum) for form, runs in took.items()}
    print(f"{environment()}; {vars(args)}\n")
    slow = sum(best["unrolled"])
    rows = [
        [form, f"{trace:.2f} s", f"{compiled:.2f} s", f"{slow / (trace + compiled):.1f}x"]
        for form, (trace, compiled) in best.items()
    ]
    print(table(["depth", "trace", "compile", "unrolled / this"], rows))


if __name__ == "__main__":
    main()
