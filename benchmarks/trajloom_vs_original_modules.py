"""TrajLoom's published implementation, run from its own folder: the peer of a benchmark.

The folder (TrajLoom's code as published, Apache-2.0) is fetched beside the project; nothing of it
is copied. `Original` calls its modules and functions in the order of its inference script.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn

# What the script imports to read videos; nothing here does.
UNUSED = ("decord", "imageio")


class Original:
    """The original's three modules with given weights, in float32 on the CPU.

    Args:
      folder: of the original, as fetched.
      depths: blocks of the (VAE's encoder, its decoder, generator).
      states: state dicts of "vae", "flow" and "visibility".
      statistics: (mean, std), (C,) each, of standardised latents.
    """

    def __init__(self, folder: Path, depths: tuple[int, int, int], states, statistics):
        self.script = open_folder(folder)
        configs = json.loads((folder / "configs/trajloom_generator_config.json").read_text())
        self.size = configs["data"]["raw_height"], configs["data"]["raw_width"]
        self.stride, self.frames = configs["data"]["track_stride"], configs["data"]["future_len"]
        encoder, decoder, depth = depths
        make = importlib.import_module
        vae = configs["trajloom_vae"]["config"]
        vae |= {"encoder_depth": encoder, "decoder_depth": decoder}
        flow = make("configs.generator_configs").TrajLoomGeneratorConfig(
            **{**configs["generator"], "depth": depth}
        )
        visibility = make("models.visibility_predictor").VisPredictorConfig()
        self.vae = _loaded(make("models.trajloom_vae").TrajLoomVAE(**vae), states["vae"])
        self.flow = _loaded(self.script.TrajLoomGenerator(flow), states["flow"])
        self.visibility = _loaded(
            self.script.TrajLoomVisibilityPredictor(visibility), states["visibility"]
        )
        latents = make("utils.trajloom_vae_utils")
        latents._LAT_MEAN, latents._LAT_STD = (
            torch.from_numpy(np.asarray(values)).view(1, 1, 1, -1) for values in statistics
        )

    @torch.no_grad()
    def encode(self, tracks: np.ndarray) -> torch.Tensor:
        """(N, T, 2) pixels -> standardised latents (1, L, N, C), by way of the dense field."""
        dense = importlib.import_module("utils.trajloom_vae_utils").flat_to_dense_raw
        seen = torch.ones(tracks.shape[:2], dtype=torch.bool)
        field, _ = dense(torch.from_numpy(tracks), seen, self.size, self.stride)
        height, width = self.size
        normalised = self.script.normalize_points_torch(
            field[None], max_width=width, max_height=height
        )
        channels_first = normalised.permute(0, 1, 4, 2, 3).contiguous()
        return self.script.scale_latents(self.vae.encode(channels_first).loc)

    @torch.no_grad()
    def integrate(self, history, video, text, sources: np.ndarray, steps: int, batched: bool):
        """Euler's method from the sources (K, L, N, C): all samples at once, or one by one."""
        groups = [sources] if batched else np.split(sources, len(sources))
        return torch.cat([self._sample(history, video, text, z, steps) for z in groups])

    def _sample(self, history, video, text, z0, steps):
        count = len(z0)
        given = [
            torch.as_tensor(x).expand(count, *x.shape[1:]).contiguous()
            for x in (history, video, text)
        ]
        return self.script.sample_rectified_flow(
            self.flow,
            *given,
            tuple(z0.shape),
            z0=torch.from_numpy(z0.copy()),
            steps=steps,
            method="euler",
        )

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tracks (K, T, N, 2), visible and its probability (K, T, N), one sample by one."""
        each = [self._decode(latents[k : k + 1]) for k in range(len(latents))]
        return tuple(np.stack(arrays) for arrays in zip(*each, strict=True))

    def _decode(self, latents):
        script, (height, width) = self.script, self.size
        field = self.vae.decode(script.unscale_latents(latents)).clamp(-1.0, 1.0)
        field = field.permute(0, 1, 3, 4, 2).contiguous()
        pixels = script.denormalize_points_torch(field, max_width=width, max_height=height)
        chance = torch.sigmoid(self.visibility(z_fut=latents))
        chance = script.repeat_21_to_81(chance, stride=4, out_len=self.frames)
        cells = (height // self.stride, width // self.stride)
        chance = chance.view(1, self.frames, *cells)
        chance = chance.repeat_interleave(self.stride, 2).repeat_interleave(self.stride, 3)
        visible = (chance > 0.5).reshape(self.frames, -1)
        places = script.make_query_grid_xy(
            height, width, stride=self.stride, border=0, origin="topleft"
        ).reshape(-1, 2)
        index = places[:, 1] * width + places[:, 0]
        tracks = pixels[0].reshape(self.frames, -1, 2)[:, index].numpy().copy()
        visible = script._apply_oob_mask_to_vis(
            tracks, visible[:, index].numpy().astype(np.uint8), W=width, H=height
        )
        tracks[..., 0] = np.clip(tracks[..., 0], 0.0, width - 1 - 1e-3)
        tracks[..., 1] = np.clip(tracks[..., 1], 0.0, height - 1 - 1e-3)
        chance = chance.reshape(self.frames, -1)[:, index].numpy().copy()
        return tracks, visible.astype(bool), chance


def _loaded(module: nn.Module, state: dict[str, np.ndarray]) -> nn.Module:
    module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return module.eval().requires_grad_(False)


def open_folder(folder: Path) -> types.ModuleType:
    """The original's inference script as a module.

    Its readers of videos are replaced by nothing where they are not installed; so are the two
    layers that it takes from timm, by the same layers.
    """
    if not (folder / "run_trajloom_generator.py").exists():
        raise SystemExit(f"--original {folder}: there is no run_trajloom_generator.py")
    for name in UNUSED:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
    if importlib.util.find_spec("timm") is None:
        layers = types.ModuleType("timm.models.vision_transformer")
        layers.PatchEmbed, layers.Mlp = PatchEmbed, Mlp
        for name in ("timm", "timm.models"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules["timm.models.vision_transformer"] = layers
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    return importlib.import_module("run_trajloom_generator")


class Mlp(nn.Module):
    """Two linear layers, as timm has them."""

    def __init__(self, in_features, hidden_features, act_layer=nn.GELU, drop=0.0):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class PatchEmbed(nn.Module):
    """A convolution of patches, as timm has it: (B, C, H, W) -> (B, patches, D)."""

    def __init__(self, img_size, patch_size, in_chans, embed_dim, bias=True):
        super().__init__()
        self.patch_size = patch_size
        self.grid_size = tuple(s // p for s, p in zip(img_size, patch_size, strict=True))
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size, bias=bias)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)
