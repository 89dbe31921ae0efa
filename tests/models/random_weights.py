"""Random weights for PyTorch modules, and comparisons of values and gradients on them.

At initialisation much of a transformer is invisible: norms are the identity, gates and output
layers zero. Here every tensor is noise. Layers in front of a norm can be shrunk, so that the norm
sees values near the root of its epsilon and a wrong epsilon shows.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch

SHRINK = 0.01
# Beside the others, a gradient below this share of their typical size is rounding noise.
NOISE = 1e-5


def randomise(
    module: torch.nn.Module, seed: int, shrunk: Iterable[str] = (), shrink: float = SHRINK
) -> torch.nn.Module:
    """Fills every parameter and persistent buffer with noise, in place; float32, eval mode.

    Matrices keep the size of what they are given, weights of norms lie around one, all other
    vectors and tables around zero.

    Args:
      module: any module.
      seed: of the noise.
      shrunk: regular expressions; tensors whose name one of them finds (`re.search`) are made
        smaller by `shrink`. Each must find something.
    """
    rng = np.random.default_rng(seed)
    tensors = module.state_dict(keep_vars=True)
    patterns = list(shrunk)
    for pattern in patterns:
        assert any(re.search(pattern, name) for name in tensors), f"{pattern} finds no tensor"
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            values = _noise(rng, name, tuple(tensor.shape))
            if any(re.search(pattern, name) for pattern in patterns):
                values = values * shrink
            tensor.copy_(torch.from_numpy(np.asarray(values)).to(tensor.dtype))
    return module.eval()


def _noise(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = rng.standard_normal(shape)
    if len(shape) >= 2 and name.endswith("weight"):
        return noise / np.sqrt(np.prod(shape[1:]))
    if name.endswith("weight"):  # of a norm
        return 1.0 + 0.3 * noise
    return 0.3 * noise


def state_arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The state dict as numpy arrays."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def gradients(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Gradients of every parameter behind `loss.backward()`, zeros where none arrived."""
    return {
        name: (torch.zeros_like(p) if p.grad is None else p.grad).detach().numpy()
        for name, p in module.named_parameters()
    }


def relative_error(got, want) -> float:
    """max |got - want| / rms(want)."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{got.shape} is not {want.shape}"
    return float(np.abs(got - want).max() / np.sqrt(np.mean(want**2)))


def gradient_errors(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> dict:
    """{name: relative error} of every tensor of `want`.

    A gradient that vanishes in exact arithmetic (a bias that shifts all logits of a softmax alike)
    is rounding noise on both sides: its error is measured against `NOISE` of a typical one.
    """
    sizes = {name: np.sqrt(np.mean(np.square(g, dtype=np.float64))) for name, g in want.items()}
    floor = NOISE * np.median([size for size in sizes.values() if size > 0])
    errors = {}
    for name, g in want.items():
        assert got[name].shape == g.shape, f"{name}: {got[name].shape} is not {g.shape}"
        difference = np.abs(got[name].astype(np.float64) - g).max()
        # Noise of a vanishing gradient must vanish too, but not to four digits.
        errors[name] = difference / (sizes[name] if sizes[name] > floor else floor / NOISE)
    return errors


def worst(errors: Mapping[str, float]) -> str:
    """The largest few, for a failing assertion."""
    largest = sorted(errors.items(), key=lambda item: -item[1])[:5]
    return ", ".join(f"{name} {error:.1e}" for name, error in largest)
