"""How much of a frame changes with one attribute: what a small model learns early, and what late.

    python -m tavid_jax.data.synthetic.silhouettes disc beam pillar hoop

A denoiser learns an attribute when its error falls well below the difference that the attribute
makes, so the tables tell before any training which shapes and colours will be told apart.
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from tavid_jax.data.synthetic import looks, shapes, toy
from tavid_jax.data.synthetic.render import render
from tavid_jax.data.synthetic.scene import Scene

RADIUS = 4.3  # px
LEVEL = 0.275  # the middle of the greys


def picture(shape: str | None, colour: str, radius: float = RADIUS) -> Float[np.ndarray, "H W 3"]:
    """One frame in [-1, 1] with a flat sprite in its middle (none if `shape` is None)."""
    middle = (toy.SIZE - 1) / 2.0
    names = () if shape is None else (shape,)
    place = np.array([[radius, 0.0, middle], [0.0, radius, middle]])
    scene = Scene(
        config=toy.moving_objects(num_frames=1),
        seed=0,
        shapes=names,
        kinds=("still",) * len(names),
        objects=(looks.Look(colour, looks.FLAT, 1.0, 0.0, 0),) * len(names),
        place=np.broadcast_to(place, (len(names), 1, 2, 3)),
        camera=np.eye(2, 3)[None],
        ground=looks.Ground(looks.GREY, 1.0, 0.0, 0, level=LEVEL),
    )
    return render(scene).video[0] / 127.5 - 1.0


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return 1000.0 * float(np.mean((one - other) ** 2))


def shape_differences(
    names: Iterable[str], colours: Iterable[str] = toy.COLOURS, radius: float = RADIUS
) -> dict[tuple[str, str], float]:
    """Mean squared difference of a frame in [-1, 1], times 1000, of each pair of shapes.

    Args:
      names: of shapes, all drawn with the same area in the middle of a frame of `toy.SIZE`.
      colours: the mean over these is taken.
      radius: px of the disc of that area.

    Returns:
      {(shape, shape): difference}, and {(shape, ""): difference to a frame without it}.
    """
    names, table = tuple(names), {}
    for one, other in (*itertools.combinations(names, 2), *((name, "") for name in names)):
        pictures = [(picture(one, c, radius), picture(other or None, c, radius)) for c in colours]
        table[one, other] = float(np.mean([_difference(*pair) for pair in pictures]))
    return table


def colour_differences(
    colours: Iterable[str], shape: str = "disc", radius: float = RADIUS
) -> dict[tuple[str, str], float]:
    """As `shape_differences`, of each pair of colours of one shape."""
    pictures = {colour: picture(shape, colour, radius) for colour in colours}
    return {
        pair: _difference(*(pictures[colour] for colour in pair))
        for pair in itertools.combinations(pictures, 2)
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints both tables; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.data.synthetic.silhouettes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help="default: the toy scenes'")
    parser.add_argument("--radius", type=float, default=RADIUS, help="px (default: %(default)s)")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.shapes) - set(shapes.SHAPES))
    if unknown:
        parser.error(f"no shape {unknown}; there are {', '.join(shapes.SHAPES)}")
    palette = (*toy.COLOURS, toy.NEW_COLOUR)
    rows = shape_differences(args.shapes or toy.SILHOUETTES, radius=args.radius)
    rows |= colour_differences(palette, radius=args.radius)
    for (one, other), difference in rows.items():
        sys.stdout.write(f"{one:>10}  {other or '(none)':<10} {difference:7.1f}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
