"""Options that the commands of this room share: what a model is run on, and with what memory."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from tavid_jax.engine.log import set_up_logging
from tavid_jax.engine.preemption import INTERRUPT_EXIT_CODE
from tavid_jax.pipelines.masks import HOWS
from tavid_jax.pipelines.memory import KEEP
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights.peft import AUTO

DTYPES = ("bfloat16", "float16", "float32")


def run_command(run: Callable[[], int], interrupted: str) -> int:
    """Runs a command; its errors become one line, Ctrl-C the given words. Returns the exit code."""
    set_up_logging()
    try:
        return run()
    except (ValueError, OSError, RuntimeError) as error:
        logging.debug("where it happened", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPT_EXIT_CODE


def size_hw(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH, as a type of argparse."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: give height x width, such as 480x832")
    return int(parts[0]), int(parts[1])


def add_running(parser: argparse.ArgumentParser) -> Any:
    """What a model runs on; returns the group."""
    running = parser.add_argument_group("on what")
    running.add_argument("--dtype", choices=DTYPES, help="default: bfloat16, on a CPU float32")
    running.add_argument(
        "--mesh",
        nargs="+",
        default=[],
        metavar="AXIS=SIZE",
        help="several devices: fsdp=4 context=2",
    )
    running.add_argument(
        "--part", action="append", default=[], metavar="PART=PATH",
        help="a part that lies elsewhere: vae=..., text_encoder=..., tokenizer=...",
    )  # fmt: skip
    running.add_argument(
        "--any-size", action="store_true", help="accept checkpoints of other than published sizes"
    )
    return running


def add_additions(group: Any) -> None:
    """Files of what was trained upon a model."""
    group.add_argument("--lora", metavar="FILE", help="adapters of the transformer")
    group.add_argument(
        "--lora-scale", type=_lora_scale, default=AUTO, metavar="X",
        help="of the adapters instead of alpha / rank (default: what their file says, else 1)",
    )  # fmt: skip
    group.add_argument(
        "--patch-embed", metavar="FILE",
        help="patch projection with channels for masks (patch_embed_conv2d.pth), or its folder",
    )  # fmt: skip
    group.add_argument(
        "--control", metavar="FILE",
        help="what makes the model follow tracks: FlexTraj's released file, or one trained here",
    )  # fmt: skip
    group.add_argument(
        "--laca", metavar="FILE",
        help="what makes a Wan read the texts of trajectories: laca.safetensors, or its folder",
    )  # fmt: skip
    group.add_argument(
        "--points", type=int, metavar="N",
        help="room for so many trajectories with texts (default: as the model was trained with)",
    )  # fmt: skip


def additions(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `open_pipeline` from the options of `add_additions`."""
    names = ("lora", "lora_scale", "patch_embed", "control", "laca", "points")
    return {name: getattr(args, name) for name in names}


def _lora_scale(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number, or {AUTO}") from error


def add_memory(parser: argparse.ArgumentParser) -> Any:
    """The levers of the encoders; returns the group."""
    memory = parser.add_argument_group("memory")
    memory.add_argument("--smallest", action="store_true", help="all levers: for one small card")
    memory.add_argument(
        "--keep", choices=KEEP, default="none", help="weights behind their phase (default: none)"
    )
    memory.add_argument("--encoders-on-cpu", action="store_true", help="prompts are read there")
    memory.add_argument("--tiles", action="store_true", help="the autoencoder works on tiles")
    return memory


def add_targets(parser: argparse.ArgumentParser, note: str) -> Any:
    """What a model knows of targets; returns the group."""
    group = parser.add_argument_group("targets", note)
    group.add_argument(
        "--trigger", nargs="+", metavar="WORD", type=str,
        help="word of the prompt that stands for the target, one for each mask (default: target)",
    )  # fmt: skip
    group.add_argument(
        "--latent-mask", choices=HOWS,
        help="what a latent position takes of its pixels: the top left one (default, as released), "
        "their mean, or any, for objects thinner than 8 pixels",
    )  # fmt: skip
    return group


def targets(args: argparse.Namespace, known: Targets | None = None) -> Targets | None:
    """What the options of `add_targets` say for prompts that are given as they are.

    Args:
      args: parsed.
      known: what the model's card says of its targets, which the options change.

    Returns:
      None where there is no such option.

    Raises:
      ValueError: see `Targets`.
    """
    if args.trigger is None and args.latent_mask is None:
        return None
    known = known or Targets(sentence="")
    words = tuple(args.trigger or known.words)
    same = len(words) == known.count
    return dataclasses.replace(
        known,
        words=words,
        objects=known.objects if same else tuple(range(1, len(words) + 1)),
        latent=args.latent_mask or known.latent,
        sentence="",
        nouns=(),
    )


def target_object(text: str) -> str | int:
    """Which object of a clip a target is: a name, or its number, as a type of argparse."""
    return int(text) if text.isdecimal() else text


def parts(args: argparse.Namespace) -> dict[str, str]:
    """{part: path} of `--part`; ValueError for one that is not written so."""
    return dict(_pair(text) for text in args.part)


def mesh(args: argparse.Namespace) -> dict[str, int] | None:
    """{axis: devices} of `--mesh`, None without; ValueError for one that is not written so."""
    return dict(map(_axis, args.mesh)) or None


def check_folder(out: Path) -> None:
    """Whether a folder can be written to: to be asked before hours of work. Makes nothing.

    Raises:
      ValueError: naming what is in the way.
    """
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is no folder, choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: {there} cannot be written to, choose another")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r}: write NAME=VALUE")
    return name, value


def _axis(text: str) -> tuple[str, int]:
    name, size = _pair(text)
    if not size.isdecimal():
        raise ValueError(f"{text!r}: give a whole number of devices")
    return name, int(size)
