"""Where the parts of a published model lie.

diffusers:  transformer/ [transformer_2/] vae/ text_encoder/ tokenizer/ [image_encoder/]
original:   *.safetensors or high_noise_model/ low_noise_model/, Wan2.*_VAE.pth,
            models_t5_*.pth, google/umt5-xxl/ [models_clip_*.pth]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tavid_jax.pipelines.bases import resolve_checkpoint
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.source import HUB, download

TRANSFORMER, VAE, TEXT, TOKENIZER, IMAGE = (
    "transformer", "vae", "text_encoder", "tokenizer", "image_encoder",
)  # fmt: skip
PARTS = (TRANSFORMER, VAE, TEXT, TOKENIZER, IMAGE)
_SECOND = "transformer_2"
_HIGH_NOISE = "high_noise_model"
# Of the original repositories, best first.
_ORIGINAL = {
    VAE: ("Wan2.2_VAE.*", "Wan2.1_VAE.*", "*VAE.pth", "*VAE.safetensors"),
    TEXT: ("models_t5*.pth", "models_t5*.safetensors"),
    TOKENIZER: ("google/umt5-xxl",),
    IMAGE: ("models_clip*.pth", "models_clip*.safetensors"),
}


def find_parts(
    source: str | Path, needed: Sequence[str], given: Mapping[str, str | Path] | None = None
) -> dict[str, str]:
    """{part: where it lies} of a checkpoint folder.

    Args:
      source: folder, `hf:owner/name` of a diffusers pipeline, or the name of a packaged base.
      needed: which of `PARTS`.
      given: parts that lie elsewhere.

    Raises:
      WeightsError: no such folder, or parts that are not in it: all of them, and what was looked
        for.
    """
    source = resolve_checkpoint(source)
    given = {part: str(path) for part, path in (given or {}).items()}
    unknown = sorted(set(given) - set(PARTS))
    if unknown:
        raise WeightsError(f"no part {unknown[0]!r} of a model; there are {', '.join(PARTS)}")
    missing_here = [part for part in needed if part not in given]
    if str(source).startswith(HUB):
        found = {part: _on_hub(str(source), part) for part in missing_here}
    else:
        folder = Path(source).expanduser()
        if missing_here and not folder.is_dir():
            raise WeightsError(f"{source} is no folder: give that of a whole model")
        found = {part: str(_in_folder(folder, part) or "") for part in missing_here}
    lost = [f"{part}: {_looked_for(part)}" for part, path in found.items() if not path]
    if lost:
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
        raise WeightsError(
            f"{source} lacks parts of the model; it holds {inside}. Missing\n  "
            + "\n  ".join(lost)
            + "\nComplete the folder, or say where they lie (parts={'vae': ...}, --part vae=...)"
        )
    return found | {part: given[part] for part in needed if part in given}


def _in_folder(folder: Path, part: str) -> Path | None:
    inside = folder / part
    if part == TRANSFORMER:
        # Two experts are opened by the folder that holds both.
        if (folder / _SECOND).is_dir() or (folder / _HIGH_NOISE).is_dir():
            return folder
        alone = any(folder.glob("diffusion_pytorch_model*")) or any(folder.glob("*.index.json"))
        return inside if inside.is_dir() else folder if alone else None
    if inside.is_dir():
        return inside
    for pattern in _ORIGINAL[part]:
        for path in sorted(folder.glob(pattern)):
            return path
    return None


def _looked_for(part: str) -> str:
    if part == TRANSFORMER:
        return f"{part}/, {_HIGH_NOISE}/ or diffusion_pytorch_model*.safetensors"
    return " or ".join((f"{part}/", *_ORIGINAL[part]))


def _on_hub(source: str, part: str) -> str:
    """The name of a part there; what is not read through `weights` is downloaded now."""
    if part == TOKENIZER:
        return str(download(f"{source}/{part}", ("*.json", "*.model", "*.txt")))
    return source if part == TRANSFORMER else f"{source}/{part}"
