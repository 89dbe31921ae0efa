"""config.json of published models as our configs and back, and where the two disagree."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tavid_jax.models.cogvideox.config import PRESETS as COGVIDEOX_PRESETS
from tavid_jax.models.cogvideox.vae.config import VAE_PRESETS as COGVIDEOX_VAE_PRESETS
from tavid_jax.models.text.config import TEXT_PRESETS
from tavid_jax.models.vision.config import (
    CLIP_PRESETS,
    OWLVIT_PRESETS,
    VISION_PRESETS,
    VIT_PRESETS,
)
from tavid_jax.models.wan.config import PRESETS as WAN_PRESETS
from tavid_jax.models.wan.vae.config import VAE_PRESETS as WAN_VAE_PRESETS
from tavid_jax.models.whn.config import WHN_PRESETS, WHN_VAE_PRESETS
from tavid_jax.untrusted.errors import reading
from tavid_jax.weights import (
    clip,
    cogvideox,
    cogvideox_vae,
    owlvit,
    space_to_depth,
    t5,
    vit,
    wan,
    wan_vae,
)
from tavid_jax.weights.formats import CLASS, CLASSES, Format
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.source import read_json

_MOST = 2**26  # the largest number in a config.json: of pixels of attention, or of a vocabulary
# Published name -> config.
PRESETS: dict[str, Any] = {
    **COGVIDEOX_PRESETS,
    **WAN_PRESETS,
    **COGVIDEOX_VAE_PRESETS,
    **WAN_VAE_PRESETS,
    **CLIP_PRESETS,
    **VISION_PRESETS,
    **OWLVIT_PRESETS,
    **VIT_PRESETS,
    **TEXT_PRESETS,
    **WHN_PRESETS,
    **WHN_VAE_PRESETS,
    **space_to_depth.PRESETS,
}
# Published class -> what its config.json says.
FORMATS: dict[str, Format] = {
    **cogvideox.FORMATS,
    **wan.FORMATS,
    **cogvideox_vae.FORMATS,
    **wan_vae.FORMATS,
    **clip.FORMATS,
    **owlvit.FORMATS,
    **vit.FORMATS,
    **t5.FORMATS,
    **space_to_depth.FORMATS,
}
# Those whose models have no tensors: the file is all there is.
PARAMETER_FREE = tuple(space_to_depth.FORMATS)


def config_from_json(path: str | Path, keys: Iterable[str] | None = None) -> Any:
    """Our config of the model that a config.json (or the folder with it) describes.

    Args:
      path: a file of any published class: diffusers', transformers' or the original Wan's.
      keys: the checkpoint's keys if known. The original files do not say whether an image-to-video
        model has the image branch (Wan2.1) or not (Wan2.2 A14B); without keys the folder tells.

    Raises:
      WeightsError: not JSON, another class, or an option that our model does not have.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    content = read_json(path)
    stated = parse_config(content, path, keys)
    with reading(path, WeightsError, "the config of a model"):
        return _format(content, path).config(**stated)


def parse_config(
    content: Mapping[str, Any], path: Path | str, keys: Iterable[str] | None = None
) -> dict[str, Any]:
    """The fields of our config that the content of a config.json decides."""
    form = _format(content, path)
    odd = [
        f"{name}: {content[name]!r}, supported is {value!r}"
        for name, value in form.fixed.items()
        if name in content and content[name] != value
    ]
    raise_all({"options": odd}, f"{path} describes a model that this library does not have", "")
    stated = {ours: content.get(name, default) for name, (ours, default) in form.fields.items()}
    with reading(path, WeightsError, "the config of a model"):
        stated |= form.decode(content, stated, path, keys)
    large = [name for name, value in stated.items() if _is_huge(value)]
    raise_all({"numbers that no model has": large}, f"{path} makes no sense", "")
    return stated


def config_to_json(config: Any, naming: str = "diffusers") -> dict[str, Any]:
    """Content of the config.json of a published model: the inverse of `config_from_json`.

    Args:
      config: of a model that has one.
      naming: "diffusers" (and transformers), or "original" where that has a file of its own.
    """
    able = {
        name: form
        for name, form in FORMATS.items()
        if isinstance(config, form.config) and form.describes(config)
    }
    named = {name: form for name, form in able.items() if form.naming == naming} or able
    name, form = next(iter(named.items()))
    content = {key: getattr(config, ours) for key, (ours, _) in form.fields.items()}
    content |= form.encode(config)
    content = {k: list(v) if isinstance(v, tuple) else v for k, v in content.items()}
    header = {CLASS: name} if form.class_key == CLASS else {form.class_key: [name]}
    return {**header, **dict(sorted((content | form.fixed).items()))}


def is_described(config: Any) -> bool:
    """Whether published models of this config come with a config.json."""
    return any(isinstance(config, form.config) for form in FORMATS.values())


def preset_of(config: Any) -> str | None:
    """The published name of a config, None if it has none."""
    plain = replace(config, extra_channels=0) if hasattr(config, "extra_channels") else config
    return next((name for name, preset in PRESETS.items() if preset == plain), None)


def class_of(content: Mapping[str, Any]) -> str | None:
    """The class that a config.json names; some original ones only have its fields."""
    if {"model_type", "in_dim", "dim"} <= content.keys() and CLASS not in content:
        return "WanModel"
    named = content.get(CLASSES)
    name = content.get(CLASS, named[0] if isinstance(named, list) and named else None)
    return name if isinstance(name, str) else None


def differences(stated: Mapping[str, Any], config: Any, place: str = "in config.json") -> list[str]:
    """Lines "field: theirs in config.json, ours here" for each field that disagrees."""
    return [
        f"{name}: {value!r} {place}, {getattr(config, name)!r} here"
        for name, value in stated.items()
        if value != getattr(config, name)
    ]


def _is_huge(value: Any) -> bool:
    """Whether a size of a model, or one in a list, would make endless tables of parameters."""
    if isinstance(value, list | tuple):
        return len(value) > 1000 or any(map(_is_huge, value))
    return isinstance(value, int) and abs(value) > _MOST


def _format(content: Mapping[str, Any], path: Path | str) -> Format:
    name = class_of(content)
    if name not in FORMATS:
        raise WeightsError(
            f"{path} describes a {name or 'model without a class name'}; "
            f"known classes: {', '.join(FORMATS)}"
        )
    return FORMATS[name]
