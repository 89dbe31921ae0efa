"""CogVideoX with all its ports as one dense computation in float64 PyTorch.

One joint sequence [text | video | condition], one matrix of logits with a mask, every projection
of every token by the kernel that its layer and stream have. Slow, plain, and without any of the
library's code but the rotary table.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from tavid_jax.models.cogvideox import positions
from tavid_jax.models.cogvideox.config import CogVideoXConfig

STREAMS = ("text", "video", "condition")


def tensors(tree: Any) -> Any:
    """A nested dict of arrays as float64 leaves that gather gradients."""
    if isinstance(tree, Mapping):
        return {name: tensors(node) for name, node in tree.items()}
    return torch.tensor(np.asarray(tree), dtype=torch.float64, requires_grad=True)


def gradients(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """{"a/b/c": gradient} of `tensors`, zero where none arrived."""
    if isinstance(tree, Mapping):
        flat = {}
        for name, node in tree.items():
            flat |= gradients(node, f"{prefix}/{name}" if prefix else name)
        return flat
    return {prefix: (torch.zeros_like(tree) if tree.grad is None else tree.grad).numpy()}


@dataclasses.dataclass
class Dense:
    """The model; the fields beside config and params are its ports.

    Attributes:
      delta: (layer, path, stream) -> what is added to that kernel, or None.
      bias: layer -> (stream of queries, stream of keys, (B, K, q, s)), or None.
      residuals: layer -> what is added to video tokens.
    """

    config: CogVideoXConfig
    params: Any
    delta: Callable[[int, str, str], Any] = lambda layer, path, stream: None
    bias: Callable[[int], Any] = lambda layer: None
    residuals: Mapping[int, Any] = dataclasses.field(default_factory=dict)

    def time(self, timesteps) -> torch.Tensor:
        c = self.config
        half = c.dim // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
        angles = torch.tensor(np.asarray(timesteps), dtype=torch.float64)[:, None] * frequencies
        hidden = torch.cat([torch.cos(angles), torch.sin(angles)], -1)
        p = self.params["time_embed"]
        return affine(p["fc2"], torch.nn.functional.silu(affine(p["fc1"], hidden)))

    def embed(self, latents) -> torch.Tensor:
        c = self.config
        (pt, ph, pw), (f, h, w) = c.patch_size, c.grid(latents.shape[1:4])
        x = latents.reshape(len(latents), f, pt, h, ph, w, pw, -1).permute(0, 1, 3, 5, 2, 4, 6, 7)
        x = affine(self.params["patch_embed"], x.reshape(len(latents), f * h * w, -1))
        if c.learned_positions:
            x = x + self.params["pos_embed"][c.text_length :]
        return x

    def __call__(self, latents, timesteps, text, condition=None, condition_timesteps=None):
        """(prediction, probabilities (B, K, S, S) per layer, keys and values per layer)."""
        c = self.config
        grid = c.grid(latents.shape[1:4])
        now = self.time(timesteps)
        xs = {"text": affine(self.params["text_embed"], text), "video": self.embed(latents)}
        if c.learned_positions:
            xs["text"] = xs["text"] + self.params["pos_embed"][: c.text_length]
        times = {"text": now, "video": now}
        if condition is not None:
            zeros = np.zeros(len(timesteps))
            xs["condition"] = condition
            times["condition"] = self.time(
                zeros if condition_timesteps is None else condition_timesteps
            )
        maps, caches = [], []
        for layer in range(c.num_layers):
            xs, probabilities, cache = self.block(layer, xs, times, grid)
            maps.append(probabilities)
            caches.append(cache)
        x = norm(self.params["final_norm"], xs["video"], 1e-5)
        x = norm(self.params["out_norm"], x, 1e-5)
        two = affine(self.params["out_mod"], torch.nn.functional.silu(now))[:, None]
        shift, scale = two.chunk(2, -1)
        out = affine(self.params["out_proj"], x * (1 + scale) + shift)
        (pt, ph, pw), (f, h, w) = c.patch_size, grid
        out = out.reshape(len(out), f, h, w, pt, ph, pw, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return out.reshape(len(out), f * pt, h * ph, w * pw, -1), maps, caches

    def block(self, layer, xs, times, grid):
        params = at(self.params["blocks"], layer)

        def project(path, x, stream):
            node = params
            for name in path.split("/"):
                node = node[name]
            delta = self.delta(layer, f"blocks/{path}", stream)
            kernel = node["kernel"] if delta is None else node["kernel"] + delta
            return x @ kernel + node["bias"]

        def modulated(which, xs):
            normed, gates = {}, {}
            for name, x in xs.items():
                time = torch.nn.functional.silu(times[name])
                six = project(f"mod{which}", time, name)[:, None].chunk(6, -1)
                shift, scale, gates[name] = six[3:] if name == "text" else six[:3]
                normed[name] = norm(params[f"norm{which}"], x, 1e-5) * (1 + scale) + shift
            return normed, gates

        normed, gates = modulated(1, xs)
        mixed, probabilities, cache = self.attend(layer, params["attn"], project, normed, grid)
        xs = {name: x + gates[name] * mixed[name] for name, x in xs.items()}
        normed, gates = modulated(2, xs)
        for name, y in normed.items():
            hidden = torch.nn.functional.gelu(project("mlp/fc1", y, name), approximate="tanh")
            xs[name] = xs[name] + gates[name] * project("mlp/fc2", hidden, name)
        if layer in self.residuals:
            xs["video"] = xs["video"] + self.residuals[layer]
        return xs, probabilities, cache

    def attend(self, layer, params, project, normed, grid):
        spans, start = {}, 0
        for name in STREAMS:
            if name in normed:
                spans[name] = slice(start, start + normed[name].shape[1])
                start = spans[name].stop
        joint = {}
        for p in "qkv":
            heads = []
            for name in spans:
                y = project(f"attn/{p}", normed[name], name)
                y = y.reshape(*y.shape[:2], self.config.num_heads, -1).transpose(1, 2)
                if p != "v":
                    y = norm(params[f"{p}_norm"], y, 1e-6)
                    y = self.turned(y, grid) if name != "text" else y
                heads.append(y)
            joint[p] = torch.cat(heads, 2)
        logits = joint["q"] @ joint["k"].transpose(-1, -2) / math.sqrt(self.config.head_dim)
        if "condition" in spans:
            hidden = torch.zeros(start, start, dtype=torch.bool)
            hidden[spans["condition"], : spans["condition"].start] = True
            logits = logits.masked_fill(hidden, -math.inf)
        if self.bias(layer) is not None:
            asking, answering, values = self.bias(layer)
            full = torch.zeros_like(logits)
            full[:, :, spans[asking], spans[answering]] = values
            logits = logits + full
        probabilities = logits.softmax(-1)
        out = (probabilities @ joint["v"]).transpose(1, 2).flatten(2)
        mixed = {name: project("attn/o", out[:, span], name) for name, span in spans.items()}
        cache = {name: (joint["k"][:, :, s], joint["v"][:, :, s]) for name, s in spans.items()}
        return mixed, probabilities, cache

    def turned(self, y, grid):
        c = self.config
        table = positions.rotary_for(grid, c.head_dim, c.sample_grid[1:])
        turn = torch.tensor(np.asarray(table.cos) + 1j * np.asarray(table.sin))
        pairs = torch.view_as_complex(y.reshape(*y.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * turn.to(pairs.dtype)).flatten(-2)


def affine(p, x):
    return x @ p["kernel"] + p["bias"]


def norm(p, x, epsilon):
    centred = x - x.mean(-1, keepdim=True)
    y = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + epsilon)
    return y * p["scale"] + p["bias"]


def at(tree, layer):
    if isinstance(tree, Mapping):
        return {name: at(node, layer) for name, node in tree.items()}
    return tree[layer]
