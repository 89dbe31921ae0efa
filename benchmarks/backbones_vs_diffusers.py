"""Forward, and forward + backward, of the same model in diffusers (PyTorch) and here: ratios.

    python benchmarks/backbones_vs_diffusers.py [--models cogvideox wan] [--layers 4] [--threads 2]

Both sides hold the same weights (ported) and read the same inputs; the outputs are compared
before anything is timed. The backward pass gives the gradients of all parameters. Calls
alternate between the two, so that a busy machine hits them alike; medians. On a GPU that PyTorch
sees as well, bfloat16; otherwise float32 on the CPU, on so many threads each.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=["cogvideox", "wan"], choices=["cogvideox", "wan"]
    )
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--latent", type=int, nargs=3, default=[8, 32, 32], metavar=("F", "H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--unrolled", action="store_true", help="blocks in a loop, not a scan")
    return parser.parse_args()


ARGS = parse()
if hasattr(os, "sched_setaffinity"):  # read when the libraries make their thread pools
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: ARGS.threads]))

import diffusers  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from timing import environment, table  # noqa: E402

from tavid_jax import weights  # noqa: E402
from tavid_jax.models.cogvideox.config import CogVideoXConfig  # noqa: E402
from tavid_jax.models.cogvideox.transformer import CogVideoX  # noqa: E402
from tavid_jax.models.wan.config import WanConfig  # noqa: E402
from tavid_jax.models.wan.transformer import Wan  # noqa: E402

CHANNELS, TEXT_DIM = 16, 256


def cogvideox(args: argparse.Namespace) -> tuple:
    """(diffusers model, our model, our config, checkpoint kind, text tokens)."""
    frames, height, width = args.latent
    config = CogVideoXConfig(
        num_heads=args.width // 64,
        num_layers=args.layers,
        text_dim=TEXT_DIM,
        sample_hw=(height, width),
    )
    theirs = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=config.num_heads,
        num_layers=args.layers,
        text_embed_dim=TEXT_DIM,
        sample_height=height,
        sample_width=width,
        use_rotary_positional_embeddings=True,
    )
    return theirs, CogVideoX, config, "cogvideox", config.text_length


def wan(args: argparse.Namespace) -> tuple:
    """(diffusers model, our model, our config, checkpoint kind, text tokens)."""
    sizes = dict(num_layers=args.layers, ffn_dim=4 * args.width, text_dim=TEXT_DIM)
    config = WanConfig(num_heads=args.width // 128, **sizes)
    theirs = diffusers.WanTransformer3DModel(num_attention_heads=config.num_heads, **sizes)
    return theirs, Wan, config, "wan_diffusers", config.text_length


def their_call(theirs, name: str, inputs: dict, backward: bool, device: str) -> Callable:
    """One evaluation by diffusers."""
    x, t, text = (torch.tensor(np.asarray(inputs[k])) for k in ("latents", "timestep", "text"))
    dtype = next(theirs.parameters()).dtype
    x, text = x.to(device, dtype), text.to(device, dtype)
    # (B, F, H, W, C) -> CogVideoX (B, F, C, H, W), Wan (B, C, F, H, W).
    options = {}
    if name == "cogvideox":
        x = x.permute(0, 1, 4, 2, 3)
        from diffusers.models.embeddings import get_3d_rotary_pos_embed

        f, h, w = x.shape[1], x.shape[3] // 2, x.shape[4] // 2
        options["image_rotary_emb"] = get_3d_rotary_pos_embed(
            64, ((0, 0), (h, w)), (h, w), f, device=torch.device(device)
        )
    else:
        x = x.permute(0, 4, 1, 2, 3)
    order = (0, 1, 3, 4, 2) if name == "cogvideox" else (0, 2, 3, 4, 1)

    def forward() -> torch.Tensor:
        out = theirs(hidden_states=x, timestep=t.to(device), encoder_hidden_states=text, **options)
        return out.sample.permute(order)

    def call():
        if backward:
            theirs.zero_grad(set_to_none=True)
            forward().float().square().mean().backward()
            result = None
        else:
            with torch.no_grad():
                result = forward().float().cpu().numpy()
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return call


def our_call(model, params, inputs: dict, backward: bool) -> Callable:
    """The same evaluation here, compiled."""

    def forward(params, x, t, text):
        return model.apply({"params": params}, x, t, text)

    def loss(params, x, t, text):
        return jnp.mean(jnp.square(forward(params, x, t, text)))

    function = jax.jit(jax.grad(loss) if backward else forward)
    args = tuple(jnp.asarray(inputs[k]) for k in ("latents", "timestep", "text"))
    return lambda: jax.block_until_ready(function(params, *args))


def medians(calls: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Median seconds per call, in turns, after one call each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(name: str, args: argparse.Namespace, device: str) -> list[list[str]]:
    """Rows of the table for one model."""
    torch.manual_seed(0)
    theirs, module, config, kind, text_length = {"cogvideox": cogvideox, "wan": wan}[name](args)
    dtype = jnp.bfloat16 if device == "cuda" else jnp.float32
    params = weights.port(kind, theirs.state_dict(), config)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    theirs = theirs.to(device, torch.bfloat16 if device == "cuda" else torch.float32).eval()
    model = module(config, dtype=dtype, scan=not args.unrolled)
    rng = np.random.default_rng(0)
    inputs = {
        "latents": rng.standard_normal((1, *args.latent, CHANNELS)).astype(np.float32),
        "timestep": np.array([500.0], np.float32),
        "text": rng.standard_normal((1, text_length, TEXT_DIM)).astype(np.float32),
    }
    tokens = config.grid(tuple(args.latent))
    tokens = tokens[0] * tokens[1] * tokens[2]
    rows = []
    for what, backward in (("forward", False), ("forward + backward", True)):
        calls = {
            "diffusers": their_call(theirs, name, inputs, backward, device),
            "here": our_call(model, params, inputs, backward),
        }
        if not backward:
            want, got = calls["diffusers"](), np.asarray(calls["here"](), np.float32)
            error = float(np.abs(got - want).max() / np.sqrt(np.mean(want**2)))
        took = medians(calls, args.repeats)
        rows.append(
            [
                name,
                f"{tokens} + {text_length}",
                what,
                f"{took['diffusers'] * 1e3:.0f} ms",
                f"{took['here'] * 1e3:.0f} ms",
                f"{took['diffusers'] / took['here']:.2f}x",
                f"{error:.1e}",
            ]
        )
    return rows


def main() -> None:
    torch.set_num_threads(ARGS.threads)
    gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    rows = [row for name in ARGS.models for row in measure(name, ARGS, device)]
    form = "unrolled" if ARGS.unrolled else "scan"
    print(f"{environment()}, torch {torch.__version__}, diffusers {diffusers.__version__}")
    print(f"width {ARGS.width}, {ARGS.layers} layers ({form}), latent {ARGS.latent}, {device}\n")
    header = ["model", "tokens (video + text)", "what", "diffusers", "here", "speed", "difference"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
