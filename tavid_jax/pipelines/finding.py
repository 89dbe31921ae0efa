"""What a name and a folder stand for: a published model, or one that was trained here."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path

from tavid_jax.pipelines.bases import BASES, base_folder, resolve_checkpoint
from tavid_jax.pipelines.card import ADAPTERS, LOCATED, STEERING, VECTORS, Card, has_card, read_card
from tavid_jax.pipelines.folder import PARTS
from tavid_jax.pipelines.settings import PUBLISHED, Published
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights.patch_embed import find_patch_embed
from tavid_jax.weights.source import HUB


@dataclasses.dataclass(frozen=True)
class Found:
    """A model and where it lies.

    Attributes:
      published: what it is.
      source: where its parts lie, but for `parts`.
      parts: {part: path} of those that lie elsewhere.
      adapters: of the transformer.
      control: the file of what reads condition videos: adapters of their stream, and a fusion.
      laca: the file of a location-aware cross-attention.
      patch_embed: the file of a patch projection that was trained, with or without mask channels.
      targets: what the model was taught of targets.
      follow: fields of `Follow` that it was taught to follow tracks with.
      embedding: the file of learned vectors of their words.
      dtype: in which it is meant to compute; None is any.
      is_published: whether it has the published sizes.
    """

    published: Published
    source: str
    parts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    adapters: str | Path | None = None
    control: str | Path | None = None
    laca: str | Path | None = None
    patch_embed: str | Path | None = None
    targets: Targets | None = None
    follow: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    embedding: Path | None = None
    dtype: str | None = None
    is_published: bool = True


def find(name: str) -> Published:
    """A published model by name; ValueError with the nearest and all names if there is none."""
    if name not in PUBLISHED:
        known = [*PUBLISHED, *BASES]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"no model {name!r}; {hint}There are {', '.join(PUBLISHED)}; "
            f"and with the package {', '.join(BASES)}"
        )
    return PUBLISHED[name]


def find_model(name: str | Path, path: str | Path | None = None) -> Found:
    """What is meant by a name alone, or by the name of a model and where it lies.

    Args:
      name: of a published model, which needs a `path`; of a packaged base; or a folder with a card.
      path: of a checkpoint, or the name of a packaged base.

    Raises:
      ValueError: an unknown name, a published model without a path, or a folder of another model.
      WeightsError: a folder with a card whose files are damaged or missing.
    """
    name = str(name)
    if path is None:
        if name in BASES:
            return _with_card(base_folder(name))
        if has_card(name):
            return _with_card(Path(name))
        find(name)
        raise ValueError(
            f"{name} is a published model: give its checkpoint too, a folder or {HUB}owner/name"
        )
    source = resolve_checkpoint(path)
    if source.startswith(HUB) or not has_card(source):
        return Found(find(name), source)
    found = _with_card(Path(source))
    if name not in (found.published.backbone, found.published.preset):
        raise ValueError(
            f"{path} is {found.published.backbone}, made like {found.published.preset}, not {name}"
        )
    return found


def _with_card(folder: Path) -> Found:
    folder = folder.expanduser()
    card = read_card(folder)
    names = (ADAPTERS, STEERING, LOCATED, VECTORS)
    files = {file: folder / file for file in names if (folder / file).is_file()}
    return Found(
        card.published(),
        _rest_of(card, folder),
        parts={part: str(folder / part) for part in PARTS if (folder / part).is_dir()},
        adapters=files.get(ADAPTERS),
        control=files.get(STEERING),
        laca=files.get(LOCATED),
        patch_embed=find_patch_embed(folder),
        targets=card.read_targets(),
        follow=card.follow,
        embedding=files.get(VECTORS),
        dtype=card.dtype,
        is_published=False,
    )


def _rest_of(card: Card, folder: Path) -> str:
    """Where the parts lie that the folder does not hold."""
    if not card.checkpoint:
        return str(folder)
    source = resolve_checkpoint(card.checkpoint)
    if not source.startswith(HUB) and has_card(source):
        read_card(source)  # its files are looked at too
    return source
