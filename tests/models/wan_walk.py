"""diffusers' Wan blocks walked by hand in the slow, literal form of what our ports do.

Video and condition tokens are one sequence of 2N under a mask; adapters of one stream are switched
by rows; biases, residuals and replaced cross-attention are put in where they belong.
"""

import contextlib
from collections.abc import Callable, Mapping
from unittest import mock

import numpy as np
import torch
from wan_reference import channels_first


def tensor(x) -> torch.Tensor:
    """A tensor of its own from an array of any library; tensors are passed through."""
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))


class Walk:
    """One evaluation of diffusers' model with ports.

    Attributes:
      self_bias: (layer) -> (B, K, M, M) or None; added to the logits of self-attention, over
        video tokens and, behind them, condition tokens.
      cross_bias: the same for the text's keys.
      cross: {layer: f(x, text, base) -> what cross-attention adds}.
      residuals: {layer: added to the video tokens}.
    """

    def __init__(self, model):
        self.model = model
        self.self_bias: Callable = lambda layer: None
        self.cross_bias: Callable = lambda layer: None
        self.cross: Mapping[int, Callable] = {}
        self.residuals: Mapping[int, torch.Tensor] = {}

    def __call__(self, latents, timestep, text, image=None, condition=None, clean=None):
        """Output (B, F, H, W, C). Timesteps (B, G) as ours; `clean` is the condition's (B,)."""
        model = self.model
        latents, text = tensor(channels_first(latents)), tensor(text)
        rope = model.rope(latents)
        x = model.patch_embedding(latents).flatten(2).transpose(1, 2)
        tokens = x.shape[1]
        t = tensor(timestep).repeat_interleave(tokens // timestep.shape[1], dim=1)
        if condition is not None:
            x = torch.cat([x, tensor(condition)], dim=1)
            t = torch.cat([t, tensor(clean)[:, None].expand(-1, tokens)], dim=1)
            rope = [torch.cat([table, table], dim=1) for table in rope]
        image = None if image is None else tensor(image)
        time, six, text, image = model.condition_embedder(
            t.flatten(), text, image, timestep_seq_len=t.shape[1]
        )
        six = six.unflatten(2, (6, -1))
        context = text if image is None else torch.cat([image, text], dim=1)
        for layer, block in enumerate(model.blocks):
            with self._plugged(layer, block, text, tokens, condition is not None):
                x = block(x, context, six, rope)
            if layer in self.residuals:
                added = self.residuals[layer]
                x = torch.cat([x[:, :tokens] + added, x[:, tokens:]], dim=1)
        table = model.scale_shift_table[None] + time[:, :tokens, None]
        x = model.norm_out(x[:, :tokens]) * (1 + table[:, :, 1]) + table[:, :, 0]
        f, h, w = (n // p for n, p in zip(latents.shape[2:], model.config.patch_size, strict=True))
        pt, ph, pw = model.config.patch_size
        x = model.proj_out(x).reshape(len(x), f, h, w, pt, ph, pw, -1)
        return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(len(x), f * pt, h * ph, w * pw, -1)

    @contextlib.contextmanager
    def _plugged(self, layer: int, block, text, tokens: int, has_condition: bool):
        attend, cross = block.attn1.forward, block.attn2.forward

        def self_attention(x, context, mask, rope):
            mask = self.self_bias(layer)
            if has_condition:
                mask = torch.zeros(1, 1, *2 * x.shape[1:2]) if mask is None else mask.clone()
                mask[..., tokens:, :tokens] = -torch.inf
            return attend(x, context, mask, rope)

        def cross_attention(x, context, mask, rope):
            base = cross(x, context, self.cross_bias(layer), rope)
            if layer not in self.cross:
                return base
            video = self.cross[layer](x[:, :tokens], text, base[:, :tokens])
            return torch.cat([video, base[:, tokens:]], dim=1)

        with (
            mock.patch.object(block.attn1, "forward", self_attention),
            mock.patch.object(block.attn2, "forward", cross_attention),
        ):
            yield


@contextlib.contextmanager
def low_rank(terms: Mapping[torch.nn.Linear, tuple], rows: slice):
    """y += scale x[:, rows] A B on some linear layers; `terms` holds (A, B, scale)."""

    def hook(module, given, out):
        a, b, scale = terms[module]
        seen = torch.zeros(out.shape[1], 1)
        seen[rows] = 1
        return out + scale * (seen * given[0]) @ a @ b

    handles = [module.register_forward_hook(hook) for module in terms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
