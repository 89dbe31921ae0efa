"""Wan-Move as a system: fine-tuning on clips with tracks; samples follow the clips' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Results
from tavid_jax.methods.finetune.evaluation import finished
from tavid_jax.methods.finetune.preview import data_sets
from tavid_jax.methods.finetune.samples import job_of, jobs_of, write_samples
from tavid_jax.methods.finetune.settings import build
from tavid_jax.methods.finetune.system import FinetuneSystem
from tavid_jax.methods.wan_move.method import WanMove
from tavid_jax.methods.wan_move.motion import Motion
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import media
from tavid_jax.viz.panels import Panel, side_by_side
from tavid_jax.viz.tracks import draw_trails


class WanMoveSystem(FinetuneSystem):
    """Trains on clips with tracks: the config of fine-tuning, and `motion`."""

    trains: ClassVar[str] = "wan_move"
    kind: ClassVar[type[WanMove]] = WanMove

    def additions(self, stage: Any, backbone: Backbone) -> dict[str, Any]:
        """What Wan-Move needs besides fine-tuning."""
        del backbone
        return dict(motion=self.motion(stage))

    def motion(self, stage: Any) -> Motion:
        """`config.motion` with the stage's own changes.

        Raises:
          ValueError: an unknown field, or see `Motion`.
        """
        fields = {**self.config.motion, **stage.options.get("motion", {})}
        return build(Motion, "motion", fields)

    def sample(self, results: Results, inputs: Any, out_dir: Path) -> list[Path]:
        """The videos that `config.sampling` asks for; those of clips follow the clips' tracks."""
        pipeline = self.sampler(results, inputs)
        jobs = jobs_of(self.config, inputs, pipeline, lambda clip, seed: tracks_of(clip))
        return write_samples(pipeline, jobs, Path(out_dir), self.config.get("sampling", {}))

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Shows samples of the first clips beside their tracks and the true clips."""
        config, shown = self.config, {}
        report.text(
            "Tracks that the first frame was moved along, the sample, and the true clip. How near "
            "samples stay to their tracks is measured by `python -m tavid_jax.scoring.motion`."
        )
        pipeline = self.sampler(results, inputs) if self._has_model() else None
        for name in data_sets(config) if pipeline is not None else ():
            source = inputs.open(name)
            clips = [source[i] for i in range(min(config.report.scenes, len(source)))]
            jobs = [
                job_of(
                    pipeline, clip, seed=config.evaluate.seed + i, name=str(i), **tracks_of(clip)
                )
                for i, clip in enumerate(clips)
            ]
            shown[name] = [clip.id for clip in clips]
            report.section(f"Data set {name}", f"{len(clips)} clips.")
            for clip, video in zip(clips, pipeline.run(jobs), strict=True):
                films = {"tracks": drawn(clip), "sample": video.frames, "clip": clip.video}
                strip = side_by_side([Panel(label, film) for label, film in films.items()])
                film = media.encode_animation(strip, config.report.fps or clip.fps)
                report.media(film.data, clip.caption or clip.id)
        return finished({"shown": shown}, results, report)

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """Draws clips, and the tracks that examples of them move along; opens no transformer."""
        made = super().preview(inputs, report)
        stage = next(s for s in self.config.stages.values() if s.kind == "train")
        motion, rng = self.motion(stage), np.random.default_rng(self.config.seed)
        for name in data_sets(self.config):
            source = inputs.open(name)
            report.section(f"Motion of {name}", "Tracks of some examples, over the first frame.")
            for i in range(min(self.config.report.scenes, len(source))):
                clip = source[i]
                steering = motion.steering(clip, rng)
                count = 0 if steering is None else steering.num_points
                film = media.encode_animation(drawn(clip, steering), clip.fps)
                report.media(film.data, f"{count} tracks: {clip.caption or clip.id}")
        return made


def tracks_of(clip: Clip) -> dict[str, Any]:
    """Fields of a job that follows a clip's own tracks; none where none is seen at first."""
    if clip.tracks is None or not clip.visibility[:, 0].any():
        return {}
    return {"tracks": Trajectories(clip.tracks, clip.visibility, tuple(clip.size_hw))}


def drawn(clip: Clip, steering: Trajectories | None = None) -> np.ndarray:
    """Tracks over a clip's first frame; by default all of its own."""
    chosen = steering or tracks_of(clip).get("tracks")
    if chosen is None:
        return np.repeat(clip.video[:1], len(clip.video), axis=0)
    return draw_trails(clip.video[0], chosen.tracks, chosen.visibility)
