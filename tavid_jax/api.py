"""The library from Python: open a finished run or a published model, and sample from it.

import tavid_jax
tavid_jax.load("tiny-wan").sample("a red disc moves left").save("disc.webp")

model = tavid_jax.load("runs/trajloom_demo")
forecast = model.sample("my_video.mp4", samples=3)

wan = tavid_jax.load("wan2.1-t2v-1.3b", "checkpoints/Wan2.1-T2V-1.3B")
wan.sample("a red ball rolls over the grass", seed=3).save("ball.mp4")

path = "checkpoints/CogVideoX-5b-I2V"  # and TAViD's two files upon it
tavid = tavid_jax.load("cogvideox-5b-i2v", path, lora="tavid", patch_embed="tavid")
tavid.sample("She lifts the target mug.", image="a.jpg", mask="mug.png").save("mug.mp4")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tavid_jax import run
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.engine.method import Results
from tavid_jax.engine.stages import open_results
from tavid_jax.engine.workdir import config_hash, to_plain
from tavid_jax.methods.registry import make_system
from tavid_jax.pipelines.bases import BASES
from tavid_jax.pipelines.card import has_card
from tavid_jax.pipelines.settings import PUBLISHED
from tavid_jax.places import place
from tavid_jax.weights.trajloom_release import is_trajloom_release


def load(name: str | Path, checkpoint: str | Path | None = None, **options: Any) -> Any:
    """Open a finished run, a packaged model, or a published one with its checkpoint, to sample.

    Args:
      name: the folder that `python -m tavid_jax.main --workdir=...` trained in; the folder of
        TrajLoom's three released checkpoints; a model that comes with the package, "tiny-wan" or
        "tiny-cogvideox"; the folder of a pipeline that was trained here (with a base.json); or,
        with `checkpoint`, the name of a published model such as "wan2.1-t2v-1.3b".
      checkpoint: folder of the whole published model, in diffusers' or the original layout, or
        `hf:owner/name`.
      options: of all but runs, those of `pipelines.open_pipeline`: memory, mesh, lora, ...; for
        TrajLoom's checkpoints those of `methods.trajloom.released.open_released`.

    Returns:
      The system's sampler; for TrajLoom a `Sampler` whose `sample(...)` forecasts clips, for its
      released checkpoints a predictor whose `predict(past, ...)` forecasts tracks. Otherwise a
      `Pipeline` whose `sample(prompt, ...)` makes videos.

    Raises:
      FileNotFoundError: the folder holds no run.
      StageError: a stage of it has not finished.
      ValueError: an unknown system or model; a run of a system of one's own whose module has not
        been imported; a checkpoint that does not fit, or is damaged.
    """
    if checkpoint is None and is_trajloom_release(name):
        from tavid_jax.methods.trajloom.released import open_released  # slow to import

        return open_released(name, **options)
    if checkpoint is not None or str(name) in BASES or has_card(name):
        from tavid_jax.pipelines.opening import open_pipeline  # slow to import

        return open_pipeline(name, checkpoint, **options)
    if options:
        raise ValueError(
            f"{sorted(options)[0]!r} is an option of published models: give a checkpoint too"
        )
    system, results, inputs = open_run(name)
    return system.sampler(results, inputs)


def open_run(workdir: str | Path) -> tuple[Any, Results, ConfiguredInputs]:
    """A finished run's system, the results of its stages, and what it reads; errors as `load`."""
    known = place(workdir) / "config.json"
    if str(workdir) in PUBLISHED:
        raise ValueError(
            f"{workdir} is a published model: give its checkpoint's folder too, "
            f"tavid_jax.load({str(workdir)!r}, path)"
        )
    if not known.exists():
        raise FileNotFoundError(
            f"{workdir} holds no run (no config.json): train one with "
            f"python -m tavid_jax.main --config=configs/trajloom.py --workdir={workdir}; "
            f"with the package come {', '.join(BASES)}"
        )
    config = ConfigDict(json.loads(known.read_text()))
    system = make_system(config)
    fingerprint = config_hash(to_plain(config), config.volatile)
    results = open_results(config, place(workdir), fingerprint)
    return system, results, ConfiguredInputs(config, place(workdir))


def train(config: ConfigDict, workdir: str | Path) -> Any:
    """Run every stage of a config that is not finished, judge, report, and `load` the result."""
    run.run(config, place(workdir), "train")
    return load(workdir)
