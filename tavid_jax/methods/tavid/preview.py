"""What the model will be told of targets: masks on pixels, latents and tokens, words as pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.methods.finetune.pages import at_height
from tavid_jax.methods.tavid.method import Tavid
from tavid_jax.methods.tavid.pages import MASKED, outlined
from tavid_jax.pipelines.masks import HOWS, pooled
from tavid_jax.pipelines.targets import AIM, COLUMNS, TargetReader
from tavid_jax.viz import media, panels

Frames = UInt8[np.ndarray, "T H W 3"]


def target_pages(
    config: Any, method: Tavid, name: str, clips: Sequence[Clip], report: Any
) -> dict[str, Any]:
    """Draws the targets of clips; returns how many clips have none that can be read.

    Args:
      config: of the run.
      method: what will be trained.
      name: of the data set.
      clips: its first ones.
      report: to fill.
    """
    reader, rows, refused = method.reader, [], []
    report.section(
        f"Targets of {name}",
        "Each mask as it is drawn (green), as the model's input channel under the three rules, and "
        "on the tokens that attention is led to. White is 1. The rule that is set: "
        f"`targets.latent={reader.targets.latent}`, `targets.aim={reader.targets.aim}`.",
    )
    for clip in clips:
        try:
            read = reader.read(clip)
        except ClipError as error:
            refused.append(str(error))
            continue
        film = _picture(config, reader, clip, read[AIM])
        report.media(film.data, reader.prompt(clip.caption), least_width=min(film.width, 900))
        rows += _rows(reader, clip, read)
    if rows:
        _table(reader, rows, report)
    for line in refused:
        report.text(f"**Refused**: {line}")
    return {"shown": len(clips), "refused": len(refused)}


def _picture(
    config: Any, reader: TargetReader, clip: Clip, aim: Float[np.ndarray, "K N"]
) -> media.Media:
    height, films = config.report.height, []
    for number, word, row in zip(reader.numbers(clip), reader.targets.words, aim, strict=True):
        mask = clip.masks[number - 1]
        films.append((f"{word}: mask", outlined(clip.video[:1], mask, height, MASKED)))
        for how in HOWS:
            cells = pooled(mask.astype(np.float32), reader.backbone.stride, how)
            films.append((f"input, {how}", _grey(cells, height)))
        films.append(("on tokens", _grey(row.reshape(reader.grid), height)))
    strip = panels.side_by_side([panels.Panel(label, frames) for label, frames in films], columns=5)
    return media.encode_animation(strip, 1.0)


def _grey(cells: Float[np.ndarray, "h w"], height: int) -> Frames:
    picture = np.repeat(np.round(255 * cells).astype(np.uint8)[None, ..., None], 3, axis=-1)
    return at_height(picture, height)


def _rows(reader: TargetReader, clip: Clip, read: dict[str, np.ndarray]) -> list[list[Any]]:
    prompt = reader.prompt(clip.caption)
    surfaces = [piece.strip() or "▁" for piece in reader.pieces(prompt)]
    rows = []
    for k, (number, word) in enumerate(
        zip(reader.numbers(clip), reader.targets.words, strict=True)
    ):
        places = np.flatnonzero(read[COLUMNS][k])
        marked = [f"**{p}**" if i in places else p for i, p in enumerate(surfaces)]
        mask = clip.masks[number - 1].astype(np.float32)
        cells = [pooled(mask, reader.backbone.stride, how).sum() for how in HOWS]
        rows.append(
            [
                f"{clip.id}: {word}",
                " ".join(marked),
                " ".join(str(i) for i in places),
                100.0 * float(mask.mean()),
                *map(float, cells),
            ]
        )
    return rows


def _table(reader: TargetReader, rows: list[list[Any]], report: Any) -> None:
    report.table(
        "Words and masks",
        [
            "clip: word",
            "prompt in pieces",
            "places of the word",
            dict(name="mask", unit="% of frame", digits=2),
            *(dict(name=f"input, {how}", unit="cells", digits=1) for how in HOWS),
        ],
        rows,
        f"Of {reader.length} places for text. Where `nearest` counts far fewer cells than `area`, "
        "objects are thinner than a cell and partly lost: take `--config.targets.latent=max`.",
    )
