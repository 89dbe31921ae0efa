"""I3D in PyTorch, from figure 3 of arXiv:1705.07750, for comparison; names as in public files."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tavid_jax.models.vision.config import I3DConfig

# Of figure 3: output channels of a module's four branches, the middle two with their reductions.
MODULES = {
    "3b": ((64,), (96, 128), (16, 32), (32,)),
    "3c": ((128,), (128, 192), (32, 96), (64,)),
    "4b": ((192,), (96, 208), (16, 48), (64,)),
    "4c": ((160,), (112, 224), (24, 64), (64,)),
    "4d": ((128,), (128, 256), (24, 64), (64,)),
    "4e": ((112,), (144, 288), (32, 64), (64,)),
    "4f": ((256,), (160, 320), (32, 128), (128,)),
    "5b": ((256,), (160, 320), (32, 128), (128,)),
    "5c": ((384,), (192, 384), (48, 128), (128,)),
}


def same(x: torch.Tensor, taps: tuple, strides: tuple, value: float) -> torch.Tensor:
    """Pads (B, C, T, H, W) so that ceil(n / stride) windows fit, the odd one at the end."""
    pads: list[int] = []
    for n, k, s in zip(x.shape[2:], taps, strides, strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)


def maximum(x: torch.Tensor, taps: tuple, strides: tuple) -> torch.Tensor:
    return F.max_pool3d(same(x, taps, strides, -torch.inf), taps, strides)


class Unit(nn.Module):
    def __init__(self, n_in: int, n_out: int, taps: int, epsilon: float, stride: int = 1):
        super().__init__()
        self.conv3d = nn.Conv3d(n_in, n_out, taps, stride, bias=False)
        self.bn = nn.BatchNorm3d(n_out, eps=epsilon)

    def forward(self, x):
        c = self.conv3d
        return F.relu(self.bn(c(same(x, c.kernel_size, c.stride, 0.0))))


class Mixed(nn.Module):
    def __init__(self, n_in: int, branches: tuple, epsilon: float):
        super().__init__()
        (zero,), (reduce1, one), (reduce2, two), (three,) = branches
        self.b0 = Unit(n_in, zero, 1, epsilon)
        self.b1a, self.b1b = Unit(n_in, reduce1, 1, epsilon), Unit(reduce1, one, 3, epsilon)
        self.b2a, self.b2b = Unit(n_in, reduce2, 1, epsilon), Unit(reduce2, two, 3, epsilon)
        self.b3b = Unit(n_in, three, 1, epsilon)

    def forward(self, x):
        pooled = self.b3b(maximum(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], 1)


class Head(nn.Module):
    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv3d = nn.Conv3d(n_in, n_out, 1)


class Reference(nn.Module):
    def __init__(self, c: I3DConfig):
        super().__init__()
        s, eps = c.shrink, c.epsilon
        self.Conv3d_1a_7x7 = Unit(3, 64 // s, 7, eps, stride=2)
        self.Conv3d_2b_1x1 = Unit(64 // s, 64 // s, 1, eps)
        self.Conv3d_2c_3x3 = Unit(64 // s, 192 // s, 3, eps)
        n = 192 // s
        for name, branches in MODULES.items():
            widths = tuple(tuple(w // s for w in branch) for branch in branches)
            setattr(self, f"Mixed_{name}", Mixed(n, widths, eps))
            n = sum(branch[-1] for branch in widths)
        self.logits = Head(n, c.num_classes)

    def forward(self, x):
        x = maximum(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = maximum(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in MODULES:
            if name == "4b":
                x = maximum(x, (3, 3, 3), (2, 2, 2))
            if name == "5b":
                x = maximum(x, (2, 2, 2), (2, 2, 2))
            x = getattr(self, f"Mixed_{name}")(x)
        x = self.logits.conv3d(F.avg_pool3d(x, (2, 7, 7), stride=1))
        return x.mean((2, 3, 4))


def make_reference(config: I3DConfig, seed: int) -> Reference:
    """Every tensor is noise; variances lie around the epsilon of the norms in some units."""
    model, rng = Reference(config), np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = rng.standard_normal(tensor.shape)
            if tensor.ndim > 1:
                noise = noise * np.sqrt(2 / np.prod(tensor.shape[1:]))
            elif name.endswith("running_var"):
                noise = np.exp(0.3 * noise) * (0.01 if ".b1a." in name else 1)
            elif name.endswith("bn.weight"):
                noise = (1 + 0.3 * noise) * (0.1 if ".b1a." in name else 1)
            else:
                noise = 0.2 * noise
            tensor.copy_(torch.from_numpy(np.asarray(noise)).float())
    return model.eval()
