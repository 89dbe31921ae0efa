"""A whole training step of the tiny Wan, in PyTorch with diffusers and here: a ratio.

    python benchmarks/finetune_step_vs_diffusers.py [--optimizer adamw] [--threads 2]

The step of `configs/finetune.py:tiny_wan`: umT5 and the transformer trained together, clean data
predicted, Muon (or AdamW) under clipping. Both sides hold the same weights, read the same batch at
the same noise, and agree on the loss before anything is timed. Calls alternate, so that a busy
machine hits both alike; medians. Float32 on the CPU, on so many threads each.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", default="muon", choices=["muon", "adamw"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    return parser.parse_args()


ARGS = parse()
if hasattr(os, "sched_setaffinity"):  # read when the libraries make their thread pools
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: ARGS.threads]))

import diffusers  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from timing import environment, table  # noqa: E402

from configs.finetune import get_config  # noqa: E402
from tavid_jax import weights  # noqa: E402
from tavid_jax.engine.placement import split_trainable  # noqa: E402
from tavid_jax.engine.program import Program  # noqa: E402
from tavid_jax.engine.state import example_keys  # noqa: E402
from tavid_jax.methods.finetune.method import BACKBONE, TEXT, Finetune  # noqa: E402
from tavid_jax.methods.registry import make_system  # noqa: E402
from tavid_jax.parallel.mesh import make_mesh, to_global, use_cpu_cores  # noqa: E402

LOSS_TOLERANCE = 1e-4
SEED = 1
Step = Callable[[], float]


def their_models(method: Finetune) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(transformer, text encoder) of the same sizes."""
    c, t = method.backbone.model.config, method.words.module.config
    torch.manual_seed(0)
    transformer = diffusers.WanTransformer3DModel(
        num_attention_heads=c.num_heads,
        attention_head_dim=c.head_dim,
        in_channels=c.in_channels,
        out_channels=c.out_channels,
        text_dim=c.text_dim,
        freq_dim=c.freq_dim,
        ffn_dim=c.ffn_dim,
        num_layers=c.num_layers,
    )
    text = transformers.UMT5EncoderModel(
        transformers.UMT5Config(
            vocab_size=t.vocab_size,
            d_model=t.dim,
            d_kv=t.head_dim,
            num_heads=t.num_heads,
            d_ff=t.ffn_dim,
            num_layers=t.num_layers,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
    return transformer, text


def their_step(method: Finetune, models: tuple, batch: dict, noised: dict, options) -> Step:
    """One step in PyTorch; returns its loss."""
    transformer, encoder = models
    weights_of = [p for model in models for p in model.parameters()]
    if options.name == "muon":
        matrices = [
            p for m in models for n, p in m.named_parameters() if p.ndim == 2 and _is_kernel(n)
        ]
        others = [p for p in weights_of if not any(p is m for m in matrices)]
        optimizers = [
            torch.optim.Muon(
                matrices,
                lr=options.lr,
                weight_decay=options.weight_decay,
                momentum=options.beta,
                ns_steps=options.muon_steps,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(others, lr=options.lr, betas=(options.b1, options.b2)),
        ]
    else:
        optimizers = [torch.optim.AdamW(weights_of, lr=options.lr, betas=(options.b1, options.b2))]
    tokens = torch.tensor(batch["tokens"], dtype=torch.long)
    mask = torch.tensor(batch["text_mask"])
    state, target, timestep = (torch.tensor(noised[k]) for k in ("state", "target", "timestep"))
    state, target = (x.permute(0, 4, 1, 2, 3).contiguous() for x in (state, target))

    def call() -> float:
        features = encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        features = features * mask[..., None]
        out = transformer(hidden_states=state, timestep=timestep, encoder_hidden_states=features)
        loss = (out.sample - target).square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights_of, options.clip)
        for optimizer in optimizers:
            optimizer.step()
        return float(loss.detach())

    return call


def _is_kernel(name: str) -> bool:
    """Not an embedding, a table of modulations or of position biases."""
    return not any(word in name for word in ("shared", "embed_tokens", "bias", "table"))


def our_step(method: Finetune, config, params: dict, batch: dict) -> Step:
    """One step of the engine; returns its loss."""
    stage, mesh = config.stages.finetune, make_mesh(config.mesh.to_dict())
    program = Program(method, stage, mesh)
    with jax.set_mesh(mesh):
        trainable, frozen = split_trainable(method, params)
        shapes = program.abstract_state(trainable)
        places = jax.tree.map(lambda leaf: leaf.sharding, shapes)
        state = jax.jit(program.build, out_shardings=places)(trainable, jax.random.key(SEED))
        arrays = to_global(batch, mesh)
        step = program.jitted_step(state)

    def call() -> float:
        nonlocal state
        with jax.set_mesh(mesh):
            state, metrics = step(state, frozen, arrays)
            return float(jax.block_until_ready(metrics)["loss"])

    return call


def medians(calls: dict[str, Step], repeats: int) -> dict[str, float]:
    """Median seconds per call, in turns, after two calls each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(), call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def noised_batch(method: Finetune, batch: dict) -> dict:
    """What the first step of the engine makes of a batch."""
    keys = example_keys(jax.random.key(SEED), jnp.int32(0), 1, len(batch["tokens"]))
    encoded = method.encode({}, batch, keys)
    return {
        k: np.asarray(v)
        for k, v in method.objective.noised(encoded["video"], keys)._asdict().items()
    }


def example_batch(method: Finetune, size: int) -> dict:
    """Random frames and captions of real lengths."""
    rng, spec = np.random.default_rng(0), method.raw_spec()
    captions = ["a red disc moves left", "a teal hoop stands still and a pink beam moves up"]
    words = [method.words.read(captions[i % 2]) for i in range(size)]
    return {
        "video": rng.integers(0, 256, (size, *spec["video"].shape), np.uint8),
        **{name: np.stack([w[name] for w in words]) for name in words[0]},
    }


def measure(optimizer: str) -> list[str]:
    """A row of the table."""
    config = get_config("tiny_wan")
    config.learn.text_dropout = 0.0  # the same captions on both sides
    options = config.stages.finetune.optimizer
    options.name = optimizer
    method = make_system(config).method("finetune")
    batch = example_batch(method, config.stages.finetune.batch_size)
    models = their_models(method)
    params = {
        BACKBONE: weights.port(
            "wan_diffusers", models[0].state_dict(), method.backbone.model.config
        ),
        TEXT: weights.port("umt5_transformers", models[1].state_dict(), method.words.module.config),
    }
    params = jax.tree.map(jnp.asarray, params)
    calls = {
        "PyTorch": their_step(method, models, batch, noised_batch(method, batch), options),
        "here": our_step(method, config, params, batch),
    }
    first = {name: call() for name, call in calls.items()}
    difference = abs(first["here"] / first["PyTorch"] - 1.0)
    if difference > LOSS_TOLERANCE:
        raise SystemExit(f"{optimizer}: the losses differ: {first}")
    took = medians(calls, ARGS.repeats)
    return [
        optimizer,
        f"{took['PyTorch'] * 1e3:.0f} ms",
        f"{took['here'] * 1e3:.0f} ms",
        f"{took['PyTorch'] / took['here']:.2f}x",
        f"{difference:.0e}",
    ]


def main() -> None:
    torch.set_num_threads(ARGS.threads)
    use_cpu_cores(ARGS.threads)
    row = measure(ARGS.optimizer)
    print(f"{environment()}, torch {torch.__version__}, diffusers {diffusers.__version__}\n")
    print(table(["optimizer", "PyTorch", "here", "speed", "difference of the loss"], [row]))


if __name__ == "__main__":
    main()
