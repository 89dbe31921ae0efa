"""What is compared, by name and path: trivial forecasts, finished runs, released weights, WHN."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.tracks.baselines import BASELINES
from tavid_jax.tracks.coordinates import clip_to_frame, in_bounds
from tavid_jax.tracks.forecasting import Future, Past, Predictor
from tavid_jax.trajloombench.named import named_function
from tavid_jax.trajloombench.protocol import BenchError
from tavid_jax.untrusted.texts import read_json
from tavid_jax.weights.trajloom_release import is_trajloom_release

_LABEL = re.compile(r"[^\\=@,:]{1,60}")


@dataclasses.dataclass(frozen=True)
class Solver:
    """How a flow is integrated.

    Attributes:
      name: "euler", "heun", "rk4" or "dopri5".
      steps: of the fixed-step ones; an adaptive one takes as many as it needs.
    """

    name: str
    steps: int = 10

    def __str__(self) -> str:
        return self.name if self.name == "dopri5" else f"{self.name}-{self.steps}"


EULER_10, DOPRI5 = Solver("euler", 10), Solver("dopri5")  # of the paper's tables


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
      label: its name in the tables.
      path: what was given for it.
      open: makes the predictor, for a solver (None where it has none).
      integrates: whether there is a solver to choose.
      prefix: whether a shorter forecast is the beginning of a longer one.
      video: whether it looks at the frames of the past.
    """

    label: str
    path: str
    open: Callable[[Solver | None], Predictor]
    integrates: bool = True
    prefix: bool = True
    video: bool = True


def read_solver(text: str) -> Solver:
    """A solver as written: "euler-10", "heun-5", "rk4-10", "dopri5".

    Raises:
      BenchError: anything else.
    """
    match = re.fullmatch(r"(euler|heun|rk4)-(\d+)", text)
    if match and int(match[2]) > 0:
        return Solver(match[1], int(match[2]))
    if text != "dopri5":
        raise BenchError(f"solver {text!r}: use euler-10 (or heun-, rk4- with steps), or dopri5")
    return DOPRI5


def read_method(text: str, encoders: str | None = None) -> Method:
    """A method as given on the command line: NAME=PATH.

    PATH is one of
      stand_still, constant_velocity, constant_acceleration   of `tracks.baselines`
      a folder that was trained in (`config.json`); FOLDER@VARIANT for one of its variants
      a folder with TrajLoom's released weights (trajloom_generator.pt, ...)
      a folder or file of WHN's weights
      module:function                                         which gives a `Predictor`

    Args:
      text: NAME=PATH; PATH alone is a name too.
      encoders: folder of a Wan 2.1 checkpoint whose autoencoder and text encoder make what the
        released weights read besides tracks; None = they run without video and caption.

    Raises:
      BenchError: no NAME=PATH, a path that is none of these.
    """
    label, given, path = text.partition("=")
    if not given:
        label, path = text, text
    label, path = label.strip(), path.strip()
    if not _LABEL.fullmatch(label) or label.startswith(".") or not path:
        raise BenchError(f"method {text!r}: give NAME=PATH, such as TrajLoom=checkpoints/TrajLoom")
    if path in BASELINES:
        return Method(label, path, lambda _: Baseline(path), integrates=False, video=False)
    folder, _, variant = path.partition("@")
    if is_trajloom_release(path):
        return _released(label, Path(path), encoders)
    if (Path(folder) / "config.json").is_file():
        return _run(label, folder, variant)
    if Path(path).exists():
        return _whn(label, Path(path))
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path):
        return _function(label, path)
    raise BenchError(
        f"method {label!r}: there is no {path!r}; give a trained run, a folder of released "
        f"weights, module:function, or one of {', '.join(BASELINES)}"
    )


def read_methods(texts: Sequence[str], encoders: str | None = None) -> list[Method]:
    """`read_method` of each.

    Raises:
      BenchError: none, or two of one name.
    """
    methods = [read_method(text, encoders) for text in texts]
    labels = [method.label for method in methods]
    if not methods or len(set(labels)) < len(labels):
        raise BenchError("give at least one --method NAME=PATH, each with a name of its own")
    return methods


class Baseline:
    """A trivial forecast as a `Predictor`; see `tracks.baselines`.

    As in the demos it goes on from the last frame, seen or not, and stays inside the frame; a point
    counts as visible if it was so in the last frame and does not leave.
    """

    def __init__(self, name: str):
        self._forecast = BASELINES[name]
        self.name = name.replace("_", " ")
        self.facts: Mapping[str, Any] = {"baseline": name}

    def predict(self, past: Past, frames: int, samples: int = 1, seed: int = 0) -> Future:
        """See `Predictor.predict`; all samples are the same."""
        free = np.asarray(self._forecast(past.tracks, frames))
        visible = in_bounds(free, past.size_hw) & past.visibility[:, -1:]
        tracks = clip_to_frame(free, past.size_hw)

        def repeated(x: np.ndarray) -> np.ndarray:
            return np.repeat(x[None], samples, axis=0)

        return Future(repeated(tracks), repeated(visible))

    def reconstruct(self, tracks: Float[np.ndarray, "N T 2"]) -> None:
        """It has no autoencoder."""
        return None


def _run(label: str, folder: str, variant: str) -> Method:
    """A finished run of this library; opened when its turn comes, for that takes a while."""
    kind = _system_of(folder)
    if kind not in ("trajloom", "whn"):
        raise BenchError(f"method {label!r} ({folder}): a run of {kind} forecasts no tracks")

    def open_run(solver: Solver | None) -> Predictor:
        from tavid_jax import api
        from tavid_jax.methods.trajloom import trained as trajloom
        from tavid_jax.methods.whn import trained as whn

        solver = solver or EULER_10
        try:
            system, results, _ = api.open_run(folder)
            if kind == "trajloom":
                sampling = {"solver": solver.name, "steps": solver.steps}
                return trajloom.trained_predictor(system, results, variant, **sampling)
            if variant:
                raise ValueError(f"a run of {kind} has no variants, {variant!r} was given")
            # WHN's authors count the times at which the flow is asked.
            return whn.trained_predictor(system, results, solver=solver.name, times=solver.steps)
        except (ValueError, FileNotFoundError) as error:
            raise BenchError(f"method {label!r} ({folder}): {error}") from error

    path = f"{folder}@{variant}" if variant else folder
    # TrajLoom always makes its whole window; WHN answers a shorter question differently.
    return Method(label, path, open_run, prefix=kind == "trajloom")


def _system_of(folder: str) -> str:
    """What a run says that it is of."""
    path = Path(folder) / "config.json"
    try:
        return str(read_json(path).get("system"))
    except (OSError, ValueError, AttributeError) as error:
        raise BenchError(f"{path}: is no config of a run ({error})") from error


def _released(label: str, path: Path, encoders: str | None) -> Method:
    """TrajLoom's weights, with a Wan's encoders or without."""

    @functools.cache  # the encoders are the same for every solver, and large
    def conditions() -> Any:
        from tavid_jax.pipelines.track_conditions import open_conditions
        from tavid_jax.pipelines.trajloom_release import open_released_tracks

        grid_hw = open_released_tracks(path).configs()["vae"].grid_hw
        return open_conditions(encoders, grid_hw, keep="device")

    def open_weights(solver: Solver | None) -> Predictor:
        from tavid_jax.methods.trajloom.forecaster import Sampling
        from tavid_jax.methods.trajloom.released import open_released

        solver = solver or EULER_10
        try:
            made = conditions() if encoders else None
            sampling = Sampling(solver=solver.name, steps=solver.steps)
            predictor = open_released(path, sampling=sampling, conditions=made)
        except ValueError as error:
            raise BenchError(f"method {label!r} ({path}): {error}") from error
        predictor.facts["features"] = made.facts() if made else "none"
        return predictor

    return Method(label, str(path), open_weights, video=encoders is not None)


def _whn(label: str, path: Path) -> Method:
    def open_weights(solver: Solver | None) -> Predictor:
        from tavid_jax.methods.whn.released import open_whn

        solver = solver or EULER_10
        try:
            return open_whn(path, solver=solver.name, steps=solver.steps)
        except ValueError as error:
            raise BenchError(
                f"method {label!r} ({path}): is no trained run (config.json) and no release of "
                f"TrajLoom (trajloom_generator.pt); read as WHN's weights: {error}"
            ) from error

    return Method(label, str(path), open_weights, prefix=False)


def _function(label: str, path: str) -> Method:
    make = named_function(path, f"method {label!r}:")
    return Method(label, path, lambda _: make(), integrates=False, prefix=False)
