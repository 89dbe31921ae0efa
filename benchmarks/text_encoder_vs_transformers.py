"""T5 and umT5 encoders in transformers (PyTorch) and here, float32 on the CPU: ratios.

    python benchmarks/text_encoder_vs_transformers.py [--lengths 226 512] [--layers 8]

Both sides hold the same weights (ported) and read the same ids; the features are compared before
anything is timed. T5 reads no mask, umT5 one with as many real tokens as half the length, as the
published pipelines call them. Calls alternate between the two, so that a busy machine hits them
alike; medians.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["t5", "umt5"], choices=["t5", "umt5"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[226, 512])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--unrolled", action="store_true", help="blocks in a loop, not a scan")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help='"cpu" counts the process\'s own seconds, for a busy machine; with --threads 1',
    )
    parser.add_argument("--attention", default="auto", help="implementation on our side")
    return parser.parse_args()


ARGS = parse()
if hasattr(os, "sched_setaffinity"):  # read when the libraries make their thread pools
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: ARGS.threads]))
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from timing import environment, table  # noqa: E402

from tavid_jax import weights  # noqa: E402
from tavid_jax.models.text.config import T5Config  # noqa: E402
from tavid_jax.models.text.t5 import T5Encoder  # noqa: E402

HEAD_DIM = 64
FAMILIES = {
    "t5": (transformers.T5Config, transformers.T5EncoderModel, "t5"),
    "umt5": (transformers.UMT5Config, transformers.UMT5EncoderModel, "umt5_transformers"),
}


def build(name: str, args: argparse.Namespace) -> tuple:
    """(transformers' model, our config, our parameters)."""
    config = T5Config(
        vocab_size=2048,
        dim=args.width,
        num_heads=args.width // HEAD_DIM,
        head_dim=HEAD_DIM,
        ffn_dim=5 * args.width // 2,
        num_layers=args.layers,
        shared_bias=name == "t5",
    )
    described, family, kind = FAMILIES[name]
    content = weights.config_to_json(config)
    theirs = family(described(**{k: v for k, v in content.items() if k != "architectures"})).eval()
    return theirs, config, weights.port(kind, theirs.state_dict(), config)


def medians(calls: dict[str, Callable], repeats: int, clock: Callable) -> dict[str, float]:
    """Median seconds per call, in turns, after one call each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(name: str, length: int, args: argparse.Namespace) -> list[str]:
    """One row of the table."""
    torch.manual_seed(0)
    theirs, config, params = build(name, args)
    rng = np.random.default_rng(0)
    ids = rng.integers(3, config.vocab_size, (args.batch, length)).astype(np.int32)
    mask = None
    if name == "umt5":
        mask = np.broadcast_to(np.arange(length) < length // 2, ids.shape)
    torch_ids = torch.from_numpy(ids).long()
    torch_mask = None if mask is None else torch.from_numpy(mask.copy()).long()
    model = T5Encoder(config, scan=not args.unrolled, attention=args.attention)
    encode = jax.jit(lambda params, ids, mask: model.apply({"params": params}, ids, mask))

    def their_call() -> np.ndarray:
        with torch.no_grad():
            return theirs(torch_ids, attention_mask=torch_mask).last_hidden_state.numpy()

    def our_call() -> jax.Array:
        return jax.block_until_ready(encode(params, ids, mask))

    want, got = their_call(), np.asarray(our_call())
    error = float(np.abs(got - want).max() / np.sqrt(np.mean(want**2)))
    took = medians({"transformers": their_call, "here": our_call}, args.repeats, CLOCKS[args.clock])
    return [
        name,
        str(length),
        f"{took['transformers'] * 1e3:.1f} ms",
        f"{took['here'] * 1e3:.1f} ms",
        f"{took['transformers'] / took['here']:.2f}x",
        f"{error:.1e}",
    ]


def main() -> None:
    torch.set_num_threads(ARGS.threads)
    rows = [measure(name, length, ARGS) for name in ARGS.models for length in ARGS.lengths]
    form = "unrolled" if ARGS.unrolled else "scan"
    print(
        f"{environment()}, torch {torch.__version__}, transformers {transformers.__version__}\n"
        f"width {ARGS.width}, {ARGS.layers} layers ({form}), batch {ARGS.batch}, "
        f"{ARGS.clock} time\n"
    )
    print(table(["model", "tokens", "transformers", "here", "speed", "difference"], rows))


if __name__ == "__main__":
    main()
