"""Checks shared by the configs and the entry points of this family of models."""

from collections.abc import Sequence


def positive(owner: str, **values: int) -> None:
    """Every value is a positive int."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{owner}.{name} must be a positive integer, got {value!r}")


def divides(owner: str, **pairs: tuple[int, int]) -> None:
    """Every pair (a, b): a is a multiple of b. The name tells what a and b are, "a_by_b"."""
    for name, (value, divisor) in pairs.items():
        if value % divisor:
            what, by = name.split("_by_")
            raise ValueError(
                f"{owner}: {what} {value} is not divisible by {by} {divisor}; "
                f"nearest multiples are {value // divisor * divisor} "
                f"and {(value // divisor + 1) * divisor}"
            )


def one_of(owner: str, **choices: tuple[str, Sequence[str]]) -> None:
    """Every value is one of its choices."""
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise ValueError(f"{owner}.{name} must be one of {list(allowed)}, got {value!r}")


def frames_fit_stride(owner: str, num_frames: int, stride: int) -> None:
    """num_frames = stride * k + 1."""
    if (num_frames - 1) % stride:
        below = (num_frames - 1) // stride * stride + 1
        raise ValueError(
            f"{owner}.num_frames must be {stride}*k + 1 for temporal stride {stride}, "
            f"got {num_frames}; use {below} or {below + stride}"
        )


def array_shape(owner: str, name: str, got: tuple[int, ...], want: tuple[int | None, ...]) -> None:
    """`got` equals `want`, where None stands for any size (the batch)."""
    if len(got) != len(want) or any(w not in (None, g) for g, w in zip(got, want, strict=True)):
        shown = "(" + ", ".join("any" if w is None else str(w) for w in want) + ")"
        raise ValueError(f"{owner}: {name} must have shape {shown}, got {tuple(got)}")
