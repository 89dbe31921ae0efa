"""Which tokens will read which text, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune.pages import at_height
from tavid_jax.methods.tgt import films, pages, settings
from tavid_jax.pipelines.located import LocatedWan
from tavid_jax.pipelines.locating import pairs_of
from tavid_jax.tracks.neighbourhoods import Pairs, outside, owner_map
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import media, panels

TOLD = (
    "Drawn as training draws them. Coloured tokens read a text, the stronger the larger their "
    "Gaussian weight is; all others read the caption. Each text has a colour. A latent frame "
    "stands for four frames, the first one for itself."
)


def neighbourhood_pages(
    config: Any, name: str, clips: Sequence[Clip], backbones: dict[str, LocatedWan], report: Any
) -> dict[str, Any]:
    """Draws examples of every stage that trains.

    Args:
      config: of the run.
      name: of the data set.
      clips: its first ones.
      backbones: of the stages.
      report: to fill.

    Returns:
      Stage -> {"trajectories": the mean over clips, "owned": share of tokens in a neighbourhood,
      "outside": places outside of the frame that were said to be visible}.
    """
    shares: dict[str, Any] = {}
    for stage, backbone in backbones.items():
        report.section(f"{name}: trajectories of stage {stage}", TOLD)
        draw, rows = settings.read_draw(config, config.stages[stage]), []
        for i, clip in enumerate(clips):
            drawn = draw(clip, np.random.default_rng([config.seed, i]))
            pairs = pairs_of(backbone, drawn, clip.masks)
            rows.append((drawn.num_points, _owned(backbone, pairs), outside(drawn)))
            _film(config, clip, drawn, backbone, pairs, report)
        if rows:
            count, owned, out = (float(np.mean(column)) for column in zip(*rows, strict=True))
            shares[stage] = {"trajectories": count, "owned": owned, "outside": out}
    _table(shares, report)
    return shares


def _owned(backbone: LocatedWan, pairs: Pairs) -> float:
    tokens = math.prod(backbone.grid)
    return float((owner_map(pairs, tokens)[0] > 0).mean())


def _film(
    config: Any,
    clip: Clip,
    drawn: Trajectories,
    backbone: LocatedWan,
    pairs: Pairs,
    report: Any,
) -> None:
    height, grid = config.report.height, backbone.grid
    owner, gauss = (x.reshape(grid) for x in owner_map(pairs, math.prod(grid)))
    paths = films.with_paths(clip.video, drawn, height)
    owned = films.owners(clip.video, owner, gauss, films.colours(drawn), height)
    shown = [
        panels.Panel("clip", at_height(clip.video, height)),
        panels.Panel("trajectories", paths, panels.counters(paths)),
        panels.Panel("owners", owned),
    ]
    strip = panels.strip(shown)
    film = media.encode_animation(strip, config.report.fps or clip.fps)
    report.media(film.data, pages.text_of(clip, drawn), least_width=min(strip.shape[2], 520))


def _table(shares: dict[str, Any], report: Any) -> None:
    report.table(
        "Trajectories by stage",
        [
            "stage",
            dict(name="trajectories", digits=1),
            dict(name="owned tokens", unit="%", digits=1),
            dict(name="places outside of the frame", digits=1),
        ],
        [
            [stage, one["trajectories"], 100 * one["owned"], one["outside"]]
            for stage, one in shares.items()
        ],
        "Means over the clips above. Places outside of the frame count as not visible.",
    )
