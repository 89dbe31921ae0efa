"""The toy's shapes and colours were chosen by how much of the picture they change."""

import itertools

import numpy as np
import pytest

from tavid_jax.data.synthetic import silhouettes, toy
from tavid_jax.data.synthetic.looks import PALETTE


def test_silhouettes_differ_enough_to_be_learned():
    table = silhouettes.shape_differences(toy.SILHOUETTES)
    assert len(table) == 6 + 4
    assert min(table.values()) >= 35.0


def test_fine_shapes_would_not():
    table = silhouettes.shape_differences(("disc", "box"))
    assert table["disc", "box"] < 10.0 < 60.0 < table["disc", ""]


def test_areas_are_the_same():
    frames = [silhouettes.picture(shape, "white") for shape in (*toy.SILHOUETTES, None)]
    areas = np.array([frame.sum() for frame in frames[:-1]]) - frames[-1].sum()
    assert areas.max() / areas.min() < 1.1


def test_colours_are_far_apart():
    def distance(one, other):
        return np.linalg.norm(np.subtract(PALETTE[one], PALETTE[other])) / 255.0

    assert min(distance(*pair) for pair in itertools.combinations(toy.COLOURS, 2)) > 0.4
    assert min(distance(toy.NEW_COLOUR, colour) for colour in toy.COLOURS) > 0.35
    table = silhouettes.colour_differences((*toy.COLOURS, toy.NEW_COLOUR))
    assert len(table) == 21 and min(table.values()) > 15.0


def test_command(capsys):
    assert silhouettes.main(["disc", "hoop"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:2] == ["disc", "hoop"] and float(rows[0][2]) > 35.0
    assert rows[1][1] == "(none)" and len(rows) == 3 + 21
    with pytest.raises(SystemExit):
        silhouettes.main(["blob"])
    assert "no shape ['blob']; there are disc, box" in capsys.readouterr().err
