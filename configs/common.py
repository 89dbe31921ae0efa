"""Pieces that every config is built from. Fields are documented here, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

#: Top-level keys that do not change what is trained: a finished run may be judged again with
#: other values. Everything else must stay as it was when the workdir was begun.
VOLATILE = (
    "volatile",
    "title",
    "clips",
    "evaluate",
    "sampling",
    "report",
    "mesh",
    "distributed",
    "cpu_devices",
    "compile_cache",
    "data_dir",
    "data.threads",
    "data.workers",
    "data.timeout_s",
    "data.on_bad",  # until it is needed, both values train the same
    "data.max_bad",
    "stages.*.log_every",
    "stages.*.checkpoint_every",
    "stages.*.keep",
    "stages.*.profile",
    "stages.*.offload",
)


def optimizer(**changes: Any) -> ConfigDict:
    """Optimizer of a train stage; `lr` rises over `warmup` steps and ends at `lr * final`.

    Muon takes the weights named "kernel", layer by layer, and leaves all others to Adam.
    """
    config = ConfigDict(
        dict(
            name="adamw",  # adam | adamw | muon | sgd
            lr=1e-4,
            schedule="constant",  # constant | cosine | linear | trapezoid
            warmup=0,
            final=0.0,  # of lr, for all but constant
            decay=0.25,  # trapezoid: the share of all steps, at the end, in which lr goes down
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            weight_decay=0.0,  # times lr; under Muon that of its matrices alone
            beta=0.95,  # Muon: its momentum; b1 and b2 are Adam's for the rest
            muon_steps=5,  # Muon: Newton-Schulz iterations
            consistent_rms=0.0,  # Muon: update size in units of lr, 0.2 is Adam's; 0 = by shape
            muon_also=(),  # Muon: paths (regular expressions) it takes besides kernels
            muon_not=(),  # Muon: paths of kernels that Adam takes, such as ".*/out_proj/kernel"
            clip=1.0,  # global norm; 0 = off
        )
    )
    config.update(changes)
    return config


def train_stage(method: str, **changes: Any) -> ConfigDict:
    """A stage that trains: `method` names what the config's system should train."""
    config = ConfigDict(
        dict(
            kind="train",
            method=method,
            data="train",  # a data set, or the name of a compute stage that cached examples
            cached_by=(),  # the compute stages whose caches this stage may read
            init_from=(),  # stages whose results it starts from, later ones overriding
            seed=0,  # added to config.seed
            steps=1000,
            batch_size=16,  # clips over all hosts
            micro_batches=1,  # gradient accumulation
            optimizer=optimizer(),
            ema=0.0,  # decay of the moving average that becomes the result; 0 = off
            ema_window=0.0,  # share of the steps done that it spans, until `ema` caps it; 0 = off
            log_every=20,
            checkpoint_every=200,
            keep=2,  # newest checkpoints kept
            snapshots=(),  # steps whose parameters are kept for judging
            max_bad_steps=10,  # non-finite steps in a row before the run stops
            validate=dict(every=0, data="", batches=4),  # held-out loss; 0 = off
            profile=(),  # (first, last) step to trace with the JAX profiler
            # What waits in the host's memory while it is not needed, at the price of its way there
            # and back in every step; nothing is computed differently:
            #   optimizer: the optimizer's state and the moving average, fetched for the update;
            #   frozen: stacked blocks that are not trained, fetched one layer at a time.
            offload=dict(optimizer=False, frozen=False),
            # How large kernels of blocks that are not trained are kept: "" = as the model is, int8
            # (with a scale per output; needs qwix) = half of bfloat16's room, a little less exact.
            frozen_dtype="",
            options=ConfigDict(),  # overrides of config.model and config.learn for this stage
        )
    )
    config.update(changes)
    return config


def compute_stage(method: str, **changes: Any) -> ConfigDict:
    """A stage that makes one pass over the data: statistics, caches."""
    config = ConfigDict(
        dict(
            kind="compute",
            method=method,
            data="train",
            cached_by=(),
            init_from=(),
            seed=0,
            batch_size=64,
            epochs=1,  # passes; more than one makes sense with augmentation
            min_examples=0,  # more passes over a small data set until it has given so many
            cache=False,  # keep the encoded examples for later stages
            options=ConfigDict(),
        )
    )
    config.update(changes)
    return config


def encode_stage(method: str = "encode", **changes: Any) -> ConfigDict:
    """A stage that runs frozen encoders on every clip once; later stages read what they made."""
    config = ConfigDict(
        dict(
            kind="encode",
            method=method,
            data="train",
            cached_by=(),
            init_from=(),
            seed=0,
            batch_size=1,  # clips that a device encodes at once
            shard_size=64,  # clips per file; an interrupted run loses the file that it was at
            stored="float32",  # type of the latents on disk: float32 | float16 | bfloat16
            keep="none",  # encoders behind their phase: on the device | host | none
            encoders_on="device",  # where captions are read: device | cpu
            options=ConfigDict(),
        )
    )
    config.update(changes)
    return config


def base(system: str, preset: str) -> ConfigDict:
    """What every run has; a config adds `data`, `stages` and `order`, and what its system reads.

    `order` names the stages to run; `data` is `track_data`, or what `data.inputs` reads of it.

    Args:
      system: a name of methods/registry.py, or "module:Class" beside the config file.
      preset: of this config; a run's folder is runs/<system>_<preset>.
    """
    return ConfigDict(
        dict(
            system=system,
            preset=preset,
            title=f"{system}:{preset}",  # of the report
            clips="",  # folders, globs or files of videos to work on, comma-separated
            train_clips="",  # the same, to train on instead of synthetic scenes
            seed=0,
            volatile=VOLATILE,
            mesh=dict(replica=1, fsdp=-1, context=1, tensor=1),
            distributed=dict(  # the processes of a run; every host is given the same command
                # of process 0, "host:port"; "auto": what a TPU pod, srun or mpirun says, if this
                # is one; "": a single process
                coordinator="auto",
                num_processes=0,  # for "host:port"
                process_id=-1,  # the same; -1 = by the environment, TAVID_PROCESS_ID
                # "a:1234,b,c": of all processes, the first with the port. This one is found by its
                # name, or by TAVID_PROCESS_ID
                hosts="",
                timeout=300,  # seconds that processes wait for each other at the start
            ),
            cpu_devices=0,  # that a CPU counts as; 0 = one per core, at most 8
            compile_cache="~/.cache/tavid_jax/xla",  # a folder or gs://bucket/name; "" = off
            data_dir="~/.cache/tavid_jax/data",  # generated data sets and track caches
        )
    )


def feed() -> dict[str, Any]:
    """How examples are read; part of `config.data`."""
    return dict(
        threads=2,  # that prepare examples
        workers=0,  # processes that do; 0 = threads of this one
        timeout_s=600.0,  # a batch that takes longer stops the run: something hangs
        on_bad="stop",  # at a clip that cannot be read; skip: another one takes its place
        max_bad=100,  # so many different clips each process may skip
    )


def track_data(**changes: Any) -> ConfigDict:
    """Clips with their tracks, one per cell of a grid: synthetic scenes, or the user's videos.

    A clip has `windows` x `frames` frames. Its tracks are (N, T, 2) xy pixels of `size_hw`, with
    N = (H / stride) * (W / stride) points, row by row.
    """
    config = ConfigDict(
        dict(
            size_hw=(64, 64),
            stride=8,  # one track per 8x8 cell
            origin="center",  # ours: top-left queries leave the frame at the smallest pan
            frames=17,  # of a window
            windows=2,  # history and future
            scene=ConfigDict(),  # of synthetic scenes: fields of SceneConfig
            splits=dict(train=ConfigDict(), test=ConfigDict()),  # the same, of one split
            scenes=dict(train=8000, test=200),
            clips=dict(
                fps=12.0,  # frame rate that real clips are read at; 0 = their own
                hop=0,  # frames between windows of a clip; 0 = windows do not overlap
                train_hop=4,
                holdout=0.2,  # of every training clip's frames, for judging
                captions="",  # CSV with columns videoid, text
                selected="",  # list of the videos that count; "" = all
                regrid=True,  # whether tracks of another grid are read at ours
                spare_captions=False,  # whether captions may name videos that are not there
                tracks="",  # folder of official track files; "" = beside the videos
            ),
            augment=dict(flip=0.5, reverse=0.0, crop=0.5),  # of real training clips
            **feed(),
        )
    )
    config.update(changes)
    return config


def choose(presets: dict[str, Callable[[], ConfigDict]], name: str | None) -> ConfigDict:
    """The config of a preset; the first one is the default.

    Raises ValueError listing what there is, also as its attribute `presets`.
    """
    name = name or next(iter(presets))
    if name not in presets:
        # Not a class of its own: absl makes errors of flags anew, from their text alone.
        error = ValueError(f"no preset {name!r}; there are {', '.join(presets)}")
        error.presets = tuple(presets)
        raise error
    return presets[name]()


def presets_of(get_config: Callable[[str | None], ConfigDict]) -> tuple[str, ...]:
    """The names of a config file's presets, the default first."""
    try:
        get_config("?")
    except ValueError as error:
        if not hasattr(error, "presets"):
            raise
        return error.presets
    raise ValueError("'?' is the name of a preset: presets_of cannot ask for what there is")


def few_steps(config: ConfigDict) -> None:
    """A few scenes, and of every stage a few steps: everything runs, nearly nothing is learned."""
    config.data.scenes = dict(train=64, test=8)
    for stage in config.stages.values():
        stage.batch_size = 8
        if stage.kind == "train":
            stage.steps, stage.optimizer.warmup, stage.log_every = 4, 1, 2
            stage.checkpoint_every = 2
