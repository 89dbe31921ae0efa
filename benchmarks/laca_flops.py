"""What location-aware cross-attention adds to the operations of a block.

    python benchmarks/laca_flops.py [--model wan2.1-t2v-14b] [--frames 81] [--texts 5 40]

Operations are XLA's own count of one block's program at full size; nothing is allocated.
"""

import argparse
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from timing import environment, table

from tavid_jax.models.layers.located import Laca, LocalTexts, cross_attention_port, init_laca
from tavid_jax.models.layers.ports import Ports
from tavid_jax.models.wan.config import PRESETS, WanConfig
from tavid_jax.models.wan.transformer import Wan, param_shapes
from tavid_jax.parallel.flops import count
from tavid_jax.tracks.neighbourhoods import Rule, capacity

# Pixels of a position of the VAE's latent, and frames.
PITCH = {16: 8, 48: 16}
STRIDE_T = 4


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="wan2.1-t2v-14b", choices=PRESETS)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832), metavar=("H", "W"))
    parser.add_argument("--texts", type=int, nargs="+", default=(5, 40))
    parser.add_argument("--positions", type=int, default=33, help="of a local text, pad included")
    return parser.parse_args()


def shape(*sizes: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def texts_of(texts: int, pairs: int, positions: int, width: int) -> LocalTexts:
    integers, numbers = shape(1, pairs, dtype=jnp.int32), shape(1, pairs, dtype=jnp.float32)
    return LocalTexts(
        text=shape(1, texts, positions, width),
        lengths=shape(1, texts, dtype=jnp.int32),
        token=integers,
        owner=integers,
        gauss=numbers,
        share=numbers,
        strength=shape(1, dtype=jnp.float32),
    )


class Block:
    """One block of a model on one video."""

    def __init__(self, config: WanConfig, grid: tuple[int, int, int]):
        self.config, self.grid = dataclasses.replace(config, num_layers=1), grid
        # The whole score tensor, which the count of a loop's body would miss; only shapes here.
        self.model = Wan(self.config, dtype=jnp.bfloat16, attention="xla")
        self.params = param_shapes(self.config)
        tokens = math.prod(grid)
        self.video = shape(1, tokens, config.dim)
        self.text = shape(1, config.text_length, config.dim)

    def run(self, laca: Laca | None, params, own, texts, video, text):
        c = self.config

        def blocks(model: Wan):
            ports = None
            if laca is not None:
                port = cross_attention_port(
                    own,
                    laca,
                    texts,
                    grid=self.grid,
                    heads=c.num_heads,
                    epsilon=c.epsilon,
                    dtype=jnp.bfloat16,
                    text_length=c.text_length,
                    implementation="xla",
                )
                ports = Ports(cross_attention=port)
            times = {"video": model.embed_time(jnp.zeros(1))}
            context = {"text": text}
            return model.blocks({"video": video}, times, context, self.grid, ports).streams["video"]

        return self.model.apply({"params": params}, method=blocks)

    def operations(self, laca: Laca | None, texts: LocalTexts | None) -> tuple[float, float]:
        """(XLA's count, that of products alone)."""
        own = None
        if laca is not None:
            own = jax.eval_shape(lambda c: init_laca(c, laca), self.params["blocks"]["cross"])
        args = self.params, own, texts, self.video, self.text

        def run(*args):
            return self.run(laca, *args)

        cost = jax.jit(run).lower(*args).cost_analysis()
        return cost["flops"], count(run, *args).flops


def main() -> None:
    args = parse()
    config = PRESETS[args.model]
    pitch = PITCH[config.out_channels]
    rows, cols = (side // pitch for side in args.size)
    grid = config.grid(((args.frames - 1) // STRIDE_T + 1, rows, cols))
    block = Block(config, grid)
    alone, alone_products = block.operations(None, None)
    d, tokens = config.dim, math.prod(grid)
    print(f"{environment()}; {vars(args)}, {tokens} tokens, width {d}")
    print(f"block: {alone:.4g} operations, of which products {alone_products:.4g}\n")
    lines = []
    for count_ in args.texts:
        for rule in (Rule(), Rule(overlap="concat", region="square", centre="continuous")):
            pairs = capacity(rule, count_, grid, tuple(args.size))
            texts = texts_of(count_, pairs, args.positions, d)
            for outside in ("prompt", "skip"):
                laca = Laca(outside=outside, overlap=rule.overlap)
                total, products = block.operations(laca, texts)
                # Two projections; to the prompt also its keys and values, and the attention.
                read = tokens if outside == "prompt" else pairs
                project = 4 * read * d * d
                prompt = 4 * config.text_length * d * (d + tokens) if outside == "prompt" else 0
                local = total - alone - project - prompt
                parts = (total - alone, project, prompt, local)
                lines.append(
                    [str(count_), rule.overlap, str(pairs), outside]
                    + [f"{100 * part / alone:.2f} %" for part in parts]
                    + [f"{100 * (products - alone_products) / alone_products:.2f} %"]
                )
    header = ["texts", "overlap", "pairs", "outside", "in all", "q', o'", "prompt", "rest"]
    print(table([*header, "in all, products"], lines))


if __name__ == "__main__":
    main()
