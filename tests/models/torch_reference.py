"""The three networks restated in PyTorch, for tests only.

Written from the published description with the checkpoints' key names, in the slow literal form:
dense fields, blocks in a Python loop, context repeated for every frame, one code path per option.
Nothing here is shared with the library. `randomise` fills every parameter, also those that start
at zero, so that each branch counts.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def rms(x, weight=None, eps=1e-6):
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
    return y if weight is None else y * weight


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return rms(x, self.weight)


class Attention(nn.Module):
    def __init__(self, dim, heads, qk_norm):
        super().__init__()
        self.heads, self.qk_norm = heads, qk_norm
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        rows, length, dim = x.shape
        qkv = self.qkv(x).reshape(rows, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return self.proj(mix(q, k, v, self.qk_norm))


class CrossAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, context):
        rows, length, dim = x.shape
        shape = (self.heads, dim // self.heads)
        q = self.q(x).reshape(rows, length, *shape).transpose(1, 2)
        kv = self.kv(context).reshape(rows, context.shape[1], 2, *shape)
        k, v = kv.permute(2, 0, 3, 1, 4)
        return self.proj(mix(q, k, v, True))


def mix(q, k, v, qk_norm):
    if qk_norm:
        q, k = rms(q), rms(k)
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    out = weights @ v
    return out.transpose(1, 2).reshape(out.shape[0], out.shape[2], -1)


class Mlp(nn.Module):
    def __init__(self, dim, hidden, out=None):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out or dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class GatedBlock(nn.Module):
    def __init__(self, dim, heads, mlp_dim):
        super().__init__()
        self.gate_msa = nn.Parameter(torch.zeros(1, 1, dim))
        self.gate_mlp = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm1, self.norm2, self.norm3 = Norm(dim), Norm(dim), Norm(dim)
        self.attn = Attention(dim, heads, qk_norm=False)
        self.mlp = Mlp(dim, mlp_dim)

    def forward(self, x):
        x = x + self.gate_msa * self.attn(self.norm1(x))
        return x + self.gate_mlp * self.mlp(self.norm3(x))


def over_space(x, function):
    """x (B, T, N, D); function on (B*T, N, D)."""
    b, t, n, d = x.shape
    return function(x.reshape(b * t, n, d)).reshape(b, t, n, d)


def over_time(x, function):
    """x (B, T, N, D); function on (B*N, T, D)."""
    return over_space(x.transpose(1, 2), function).transpose(1, 2)


class Holder(nn.Module):
    """A named place for submodules."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class Fourier(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.w = nn.Parameter(torch.randn(dim // 2, 2), requires_grad=False)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, points):
        q = points @ self.w.T
        return self.mlp(torch.cat([q.cos(), q.sin()], -1) / math.sqrt(2 * self.w.shape[0]))


class Vae(nn.Module):
    """Fields (B, T, 2, H, W), absolute normalised coordinates."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        d, (height, width), p = c.hidden, c.size_hw, c.patch
        x = (2 * (torch.arange(width) + 0.5) / width - 1).expand(height, width)
        y = (2 * (torch.arange(height) + 0.5) / height - 1)[:, None].expand(height, width)
        if c.use_offsets:
            self.register_buffer("offset_anchor_grid", torch.stack([x, y])[None, None])
        self.pos_embed = nn.Parameter(torch.randn(1, c.num_tokens, d))
        self.temp_embed_in = nn.Parameter(torch.randn(1, c.num_frames, d))
        self.x_embedder = Holder(proj=nn.Conv2d(2, d, p, p))
        self.patch_pos_lff = Fourier(c.pos_embed_dim)
        self.patch_pos_proj = nn.Linear(c.pos_embed_dim, d)
        if c.use_temp_compress:
            self.temp_compressor = Holder(conv=nn.Conv1d(d, d, 7, c.temporal_stride))
            deconv = nn.ConvTranspose1d(d, d, 7, c.temporal_stride, padding=3)
            self.temp_expander = Holder(deconv=deconv)
        self.encoder_blocks = self._blocks(c.encoder_depth)
        self.decoder_blocks = self._blocks(c.decoder_depth)
        self.to_latents = nn.Linear(d, 2 * c.latent_channels)
        self.from_latents = nn.Linear(c.latent_channels, d)
        self.final_layer = nn.Linear(d, 2 * p * p)

    def _blocks(self, depth):
        c = self.c
        make = (GatedBlock(c.hidden, c.heads, int(c.hidden * c.mlp_ratio)) for _ in range(depth))
        return nn.ModuleList(make)

    def encode(self, field):
        c = self.c
        (gh, gw), p = c.grid_hw, c.patch
        if c.use_offsets:
            field = field - self.offset_anchor_grid
        b, t = field.shape[:2]
        x = self.x_embedder.proj(field.flatten(0, 1)).flatten(2).transpose(1, 2)
        rows, columns = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
        centre_x = 2 * (columns + 0.5) * p / c.size_hw[1] - 1
        centre_y = 2 * (rows + 0.5) * p / c.size_hw[0] - 1
        centres = torch.stack([centre_x, centre_y], -1).reshape(1, gh * gw, 2)
        x = x + self.pos_embed + self.patch_pos_proj(self.patch_pos_lff(centres))
        x = x.reshape(b, t, gh * gw, c.hidden)
        half = c.encoder_depth // 2
        x = self._run(self.encoder_blocks[:half], x, self.temp_embed_in)
        if c.use_temp_compress:
            x = self._compress(x)
        x = self._run(self.encoder_blocks[half:], x)
        mean, raw = self.to_latents(x).chunk(2, -1)
        return mean, F.softplus(raw / 2) + 1e-8

    def decode(self, z):
        c = self.c
        (gh, gw), p = c.grid_hw, c.patch
        x = self.from_latents(z)
        half = c.decoder_depth // 2
        x = self._run(self.decoder_blocks[:half], x)
        if c.use_temp_compress:
            x = self._expand(x)
        x = self.final_layer(self._run(self.decoder_blocks[half:], x))
        b, t = x.shape[:2]
        x = x.reshape(b, t, gh, gw, p, p, 2).permute(0, 1, 6, 2, 4, 3, 5)
        x = x.reshape(b, t, 2, *c.size_hw)
        return x + self.offset_anchor_grid if c.use_offsets else x

    @staticmethod
    def _run(blocks, x, embedding=None):
        for index, block in enumerate(blocks):
            if index == 1 and embedding is not None:
                x = x + embedding[:, :, None]
            x = (over_time if index % 2 else over_space)(x, block)
        return x

    def _compress(self, x):
        b, t, n, d = x.shape
        series = F.pad(x.permute(0, 2, 3, 1).reshape(b * n, d, t), (3, 3), mode="replicate")
        return self.temp_compressor.conv(series).reshape(b, n, d, -1).permute(0, 3, 1, 2)

    def _expand(self, x):
        b, length, n, d = x.shape
        series = x.permute(0, 2, 3, 1).reshape(b * n, d, length)
        series = self.temp_expander.deconv(F.pad(series, (3, 3), mode="replicate"))
        start = 3 * self.c.temporal_stride
        series = series[:, :, start : start + self.c.num_frames]
        return series.reshape(b, n, d, -1).permute(0, 3, 1, 2)


def cos_sin(positions, dim):
    half = dim // 2
    angles = positions[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()], -1)


class FlowBlock(nn.Module):
    def __init__(self, dim, heads, mlp_dim):
        super().__init__()
        self.attn = Attention(dim, heads, qk_norm=True)
        self.xattn = CrossAttention(dim, heads)
        self.mlp = Mlp(dim, mlp_dim)
        self.adaLN = nn.Sequential(nn.SiLU(), nn.Linear(dim, 9 * dim))

    def forward(self, x, c, context):
        m = self.adaLN(c)[:, None].chunk(9, -1)

        def modulated(y, i):
            return rms(y) * (1 + m[i + 1]) + m[i]

        x = x + m[2] * self.attn(modulated(x, 0))
        if context is not None:
            x = x + m[5] * self.xattn(modulated(x, 3), context)
        return x + m[8] * self.mlp(modulated(x, 6))


class Flow(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        d, frames = c.hidden, c.num_latent_frames

        def scalar():
            return nn.Parameter(torch.ones(()))

        self.in_proj = nn.Linear(c.latent_channels, d)
        self.hist_track_proj = nn.Linear(c.latent_channels, d)
        self.track_global_proj = nn.Linear(2 * c.latent_channels, d)
        self.beta_track_cond = scalar()
        if c.use_hist_vis_cond:
            self.hist_vis_proj, self.alpha_hist_vis = nn.Linear(1, d), scalar()
        if c.use_video_cond:
            self.hist_video_proj = nn.Linear(c.video_channels, d)
            self.video_global_proj = nn.Linear(c.video_channels, d)
            self.alpha_video_ctx, self.beta_video_cond = scalar(), scalar()
        if c.use_text_cond:
            self.text_proj = nn.Linear(c.text_dim, d)
        if c.track_fusion != "none":
            self.track_fusion_scale = scalar()
        if c.video_fusion != "none":
            self.video_fusion_scale = scalar()
        fused = c.track_fusion != "none" or c.video_fusion != "none"
        if c.track_fusion_use_time_gate and fused:
            self.track_fusion_gate_logit = nn.Parameter(torch.zeros(frames))
        self.time_mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.SiLU(), nn.Linear(4 * d, d))
        self.pos_embed = nn.Parameter(torch.randn(1, c.num_tokens, d))
        self.seg_embed = nn.Parameter(torch.randn(2, d))
        make = (FlowBlock(d, c.heads, int(d * c.mlp_ratio)) for _ in range(c.depth))
        self.blocks = nn.ModuleList(make)
        self.out_proj = nn.Linear(d, c.latent_channels)

    def forward(self, z, t, history, visibility=None, video=None, text=None):
        c = self.c
        b, frames, n, _ = z.shape
        track = self.hist_track_proj(history)
        if c.use_hist_vis_cond:
            seen = torch.zeros(b, frames, n) if visibility is None else visibility
            track = track + self.alpha_hist_vis * self.hist_vis_proj(seen[..., None])
        film = None
        if c.use_video_cond:
            if video is None:
                video = torch.zeros(b, frames, n, c.video_channels)
            film = self.hist_video_proj(video)
        x = self.in_proj(z) + self._fusion(track, film)
        summary = torch.cat([history.mean((1, 2)), history[:, -1].mean(1)], -1)
        cond = self.time_mlp(cos_sin(t, c.hidden))
        cond = cond + self.beta_track_cond * self.track_global_proj(summary)
        if text is not None:
            cond = cond + self.text_proj(text)
        if c.use_video_cond:
            cond = cond + self.beta_video_cond * self.video_global_proj(video.mean((1, 2)))
        stride = c.temporal_stride
        past = torch.arange(frames) * stride
        future = past + c.num_frames - (1 if c.use_overlap else 0)
        x = x + cos_sin(future, c.hidden)[None, :, None] + self.seg_embed[1] + self.pos_embed
        slots, both = track, False
        if film is not None and c.video_ctx_mode == "concat":
            slots, both = torch.cat([track, self.alpha_video_ctx * film], 1), True
        elif film is not None:
            slots = track + self.alpha_video_ctx * film
        position = cos_sin(past, c.hidden)[None, :, None]
        slots = slots + (torch.cat([position, position], 1) if both else position)
        slots = slots + self.seg_embed[0]
        return self.out_proj(rms(self._blocks(x, cond, slots, self._spatial(slots, both))))

    def _fusion(self, track, film):
        c = self.c
        frames = c.num_latent_frames
        total = torch.zeros(())
        gate = torch.ones(frames)
        if hasattr(self, "track_fusion_gate_logit"):
            gate = torch.sigmoid(self.track_fusion_gate_logit)
        gate = gate[None, :, None, None]
        if c.track_fusion == "add_last":
            total = total + self.track_fusion_scale * gate * track[:, -1:]
        elif c.track_fusion == "add_last_plus_vel":
            w = (torch.arange(frames) / (frames - 1))[None, :, None, None]
            ahead = track[:, -1:] + w * (track[:, -1:] - track[:, -2:-1])
            total = total + self.track_fusion_scale * gate * ahead
        if c.video_fusion == "add_last":
            total = total + self.video_fusion_scale * gate * film[:, -1:]
        return total

    def _spatial(self, slots, both):
        c = self.c
        if c.spatial_ctx_mode == "none":
            return None
        if c.spatial_ctx_mode == "time_mean":
            return slots.mean(2)
        frames, k = c.num_latent_frames, c.spatial_ctx_last_k
        chosen = list(range(frames - k, frames))
        if both and c.spatial_ctx_include_video:
            chosen += list(range(2 * frames - k, 2 * frames))
        tokens = [self._pool(slots[:, s]) + self._pool(self.pos_embed) for s in chosen]
        return torch.cat(tokens, 1)

    def _pool(self, x):
        """Mean over windows of cells, cell by cell."""
        (gh, gw), window = self.c.grid_hw, self.c.spatial_ctx_pool
        grid = x.reshape(x.shape[0], gh, gw, -1)
        out = []
        for i in range(0, gh, window):
            for j in range(0, gw, window):
                out.append(grid[:, i : i + window, j : j + window].mean((1, 2)))
        return torch.stack(out, 1)

    def _blocks(self, x, cond, slots, spatial):
        b, frames, n, d = x.shape
        by_token = slots.transpose(1, 2).reshape(b * n, -1, d)
        by_frame = None if spatial is None else spatial.repeat_interleave(frames, 0)

        def run(x, index):
            block = self.blocks[index]
            if index % 2:
                rows = cond.repeat_interleave(n, 0)
                return over_time(x, lambda y: block(y, rows, by_token))
            rows = cond.repeat_interleave(frames, 0)
            return over_space(x, lambda y: block(y, rows, by_frame))

        for first in range(0, self.c.depth, 2):
            order = (first + 1, first) if self.c.temporal_first else (first, first + 1)
            for index in order:
                x = run(x, index)
        return x


class Visibility(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        channels = c.latent_channels * (1 + c.use_hist_last + c.use_delta)
        self.in_proj = nn.Linear(channels, c.hidden)
        layers = []
        for _ in range(c.depth):
            conv = nn.Conv1d(c.hidden, c.hidden, c.kernel_size, padding=c.kernel_size // 2)
            layers += [conv, nn.SiLU()]
        self.temporal_net = nn.Sequential(*layers)
        self.out = nn.Conv1d(c.hidden, 1, 1)

    def forward(self, future, last=None):
        b, length, n, _ = future.shape
        features = [future]
        if self.c.use_hist_last:
            features.append(last[:, None].expand_as(future))
        if self.c.use_delta:
            features.append(future - last[:, None])
        x = self.in_proj(torch.cat(features, -1))
        x = x.permute(0, 2, 3, 1).reshape(b * n, -1, length)
        return self.out(self.temporal_net(x)).reshape(b, n, length).transpose(1, 2)


def randomise(module, seed):
    """Random parameters everywhere; norms and scales near one, kernels of unit gain."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name or p.ndim == 0:
                p.copy_(1 + 0.3 * noise)
            elif p.ndim >= 2 and not name.endswith("embed"):
                p.copy_(noise / math.sqrt(p[0].numel()))
            else:
                p.copy_(0.5 * noise)
    return module.eval()


def state_dict(module):
    """The checkpoint as numpy arrays."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
