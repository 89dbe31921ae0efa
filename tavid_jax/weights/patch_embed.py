"""The patch projection of a model with further input channels, in a file of its own.

TAViD's release is two files: adapters, and the whole convolution that turns patches into tokens,
all of whose channels were trained. Its input channels are those of the published model and then
the further ones; here the latter have a kernel of their own, `patch_embed_extra`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.weights.files import TORCH_SUFFIXES, read_file
from tavid_jax.weights.lazy import KEEP, LazyArray, as_lazy, common_dtype, to_dtype
from tavid_jax.weights.patch_layout import KERNEL, checked_channels, family_of, patch_row
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.safetensors import write_safetensors
from tavid_jax.weights.source import CONTAINERS, HUB, download
from tavid_jax.weights.table import walk
from tavid_jax.weights.torch_zip import write_torch_zip

COGVIDEOX_FILE = "patch_embed_conv2d.pth"
WAN_FILE = "patch_embedding.pth"
SAFETENSORS = ".safetensors"
# What a folder is searched for, in this order.
FILES = tuple(
    str(Path(name).with_suffix(suffix))
    for suffix in (".pth", SAFETENSORS)
    for name in (COGVIDEOX_FILE, WAN_FILE)
)
_KEYS = ("weight", "bias")
_BIAS, _EXTRA = "patch_embed/bias", "patch_embed_extra/kernel"


def load_patch_embed(path: str | Path, config: Any) -> dict[str, Any]:
    """The patch projection of a published or an exported file, for `params`.

    Args:
      path: a `.pth` or safetensors file of the keys `weight` and `bias`, the folder that holds
        `patch_embed_conv2d.pth` or `patch_embedding.pth`, or `hf:owner/name`.
      config: of the base, CogVideoX or Wan. How many channels were added is what the file has
        beyond `config.in_channels`; if `config.extra_channels` is not zero it must be that number.

    Returns:
      {"patch_embed": {"kernel", "bias"}, "patch_embed_extra": {"kernel"}} in float32; the latter
      only if channels were added.

    Raises:
      WeightsError: nothing usable there, other keys, or the projection of another model.
    """
    file, tensors = open_patch_embed(path)
    channels = checked_channels(file, tensors["weight"].shape, config)
    extra = channels - config.in_channels
    if config.extra_channels not in (0, extra):
        raise WeightsError(
            f"{file} has {extra} channels beyond the model's {config.in_channels}, and "
            f"config.extra_channels is {config.extra_channels}: set it to what the file has"
        )
    weight, bias = (tensors[key].read().astype(np.float32) for key in _KEYS)
    kernel = patch_row(config, channels).forward(weight).reshape(-1, channels, config.dim)
    ours, added = (
        jnp.asarray(part.reshape(-1, config.dim))
        for part in np.split(kernel, [config.in_channels], axis=1)
    )
    params = {"patch_embed": {"kernel": ours, "bias": jnp.asarray(bias)}}
    return params | ({"patch_embed_extra": {"kernel": added}} if extra else {})


def save_patch_embed(
    params: Mapping[str, Any], path: str | Path, config: Any, *, dtype: Any = KEEP
) -> Path:
    """Writes the patch projection as the file that the released code loads: the inverse.

    Args:
      params: with `patch_embed` and, if there are further channels, `patch_embed_extra`; what else
        is there is left out.
      path: a `.pth` or `.safetensors` file, or a folder for one of the usual name.
      config: of the model.
      dtype: of both tensors, "bf16", "f32", ..., or "keep" (float32 where the parts differ).

    Returns:
      The file.

    Raises:
      WeightsError: parameters of another model, or a file that is there already or cannot be
        written.
    """
    family_of(config)
    file = _target(Path(path).expanduser(), config)
    leaves = _leaves(params, config, file)
    chosen = to_dtype(dtype) or common_dtype([leaf.dtype for leaf in leaves.values()])
    arrays = {path: leaf.read().astype(chosen) for path, leaf in leaves.items()}
    parts = [
        arrays[path].reshape(config.patch_elements, -1, config.dim)
        for path in (KERNEL, _EXTRA)
        if path in arrays
    ]
    whole = np.concatenate(parts, axis=1)
    kernel = whole.reshape(-1, config.dim)
    weight = np.ascontiguousarray(patch_row(config, whole.shape[1]).op.backward(kernel))
    write = write_safetensors if file.suffix == SAFETENSORS else write_torch_zip
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, {"weight": weight, "bias": arrays[_BIAS]})
    except OSError as error:
        raise WeightsError(f"{file} cannot be written ({error})") from error
    return file


def open_patch_embed(path: str | Path) -> tuple[Path, dict[str, LazyArray]]:
    """(file, its two tensors), which are not read yet; see `load_patch_embed`."""
    file = _usual_file(path)
    tensors = read_file(file, CONTAINERS)
    problems = {
        "missing": [key for key in _KEYS if key not in tensors],
        "not expected": [key for key in tensors if key not in _KEYS],
    }
    raise_all(problems, f"{file} is no patch projection", "that has the keys weight and bias alone")
    for key in _KEYS:
        if not jnp.issubdtype(tensors[key].dtype, jnp.floating):
            raise WeightsError(f"{file}: {key} has dtype {tensors[key].dtype}, expected floats")
    weight, bias = (tensors[key].shape for key in _KEYS)
    if len(weight) < 2 or bias != weight[:1]:
        raise WeightsError(
            f"{file}: weight {weight} and bias {bias} are of no patch projection; expected "
            "(out, in, ...) and (out,)"
        )
    return file, tensors


def find_patch_embed(path: str | Path) -> Path | None:
    """The file of a patch projection that is, or lies in the folder, `path`; None without one."""
    if str(path).startswith(HUB):
        return None
    path = Path(path).expanduser()
    if path.is_dir():
        return next((path / name for name in FILES if (path / name).is_file()), None)
    if path.suffix not in (SAFETENSORS, *TORCH_SUFFIXES) or not path.is_file():
        return None
    return path if set(_KEYS) == set(read_file(path, CONTAINERS)) else None


def _usual_file(path: str | Path) -> Path:
    """The projection's file in a folder or on the hub, the path itself if that is a file."""
    place = download(str(path), FILES) if str(path).startswith(HUB) else Path(path).expanduser()
    if not place.is_dir():
        return place
    found = find_patch_embed(place)
    if found is None:
        inside = ", ".join(sorted(p.name for p in place.iterdir())[:8]) or "nothing"
        raise WeightsError(
            f"no patch projection in {path}: expected {' or '.join(FILES)}; found {inside}"
        )
    return found


def _target(path: Path, config: Any) -> Path:
    """The file to write, which is not there yet; a path without a suffix is a folder's."""
    if path.suffix not in (SAFETENSORS, *TORCH_SUFFIXES):
        path = path / (COGVIDEOX_FILE if isinstance(config, CogVideoXConfig) else WAN_FILE)
    if path.exists():
        raise WeightsError(f"{path} exists already; remove it or choose another place")
    return path


def _leaves(params: Mapping[str, Any], config: Any, file: Path) -> dict[str, LazyArray]:
    """The two or three arrays of the projection, if they are of this model."""
    parts = {part: params[part] for part in ("patch_embed", "patch_embed_extra") if part in params}
    leaves = {path: as_lazy(leaf) for path, leaf in walk(parts)}
    rows = config.patch_elements
    wanted = {KERNEL: (rows * config.in_channels, config.dim), _BIAS: (config.dim,)}
    if config.extra_channels or _EXTRA in leaves:
        extra = config.extra_channels or leaves[_EXTRA].shape[0] // rows
        wanted[_EXTRA] = (rows * extra, config.dim)
    problems = {
        "missing": [path for path in wanted if path not in leaves],
        "not expected": [path for path in leaves if path not in wanted],
        "wrong shape": [
            f"{path}: {leaves[path].shape}, expected {shape}"
            for path, shape in wanted.items()
            if path in leaves and leaves[path].shape != shape
        ],
    }
    raise_all(problems, f"cannot write {file}: these are not the config's parameters")
    return leaves
