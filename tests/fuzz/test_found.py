"""What fuzzing found: one input of each kind, which is refused now by an error of our own."""

import numpy as np
import pytest

from tests.fuzz.codecs import CODECS
from tests.fuzz.oracle import ACCEPTED, REFUSED, outcome
from tests.fuzz.readers import READERS

BY_NAME = {reader.name: reader for reader in READERS}


def put(*path_and_value):
    """A change of a tree: the value at a path."""
    *path, last, value = path_and_value

    def change(tree):
        for key in path:
            tree = tree[key]
        tree[last] = value

    return change


def change_shapes(header, shape):
    for key in header.keys() - {"__metadata__"}:
        header[key]["shape"] = shape


FOUND = [
    # Warnings of numpy where numbers are beyond float32.
    ("points .json", 0, put("points", 0, "xy", 0, 0, 1e300)),
    ("statistics", 0, put("z_hist", "per_channel", "mean", 0, 1e300)),
    # Arrays that do not fit together, or are of types that numpy cannot compare.
    ("trackers' .pkl", 1, put("expected_dist", np.zeros((2, 2)))),
    ("arrays .npz", 1, put("visibility", np.zeros((6, 5), "V3"))),
    # Values of another kind where a number, a name or an object is due.
    ("forecast meta.json", 0, put("H", [24])),
    ("forecast meta.json", 0, put("W", "a\\b")),
    ("config.json", 0, put("_class_name", {})),
    ("config.json", 0, lambda tree: (tree.pop("_class_name"), tree.update(architectures=None))),
    ("weights.json", 0, put("kind", 2)),
    ("weights.json", 0, put("config", "num_layers", "many")),
    ("card", 0, put("files", [])),
    ("Ego-Exo4D", 0, put("annotations", "u", [])),
    ("Ego-Exo4D", 0, put("annotations", "u", "object_masks", "cup_0", "cam01", 0.5)),
    ("TAP-Vid .pkl", 0, put("a", "video", np.array(b"x"))),
    # Integers that are no float.
    ("coordinates .txt", 0, put(0, "x", 10**310)),
    # A panic in a library's Rust.
    ("tokenizer.json", 0, put("model", "continuing_subword_prefix", "float32")),
    # A name that no disk takes, and shapes that multiply a text.
    ("jobs .jsonl", 0, put(0, "image", ["a", 10**300])),
    ("safetensors", 0, put("header", "a.weight", "shape", ["a", 10**30])),
    ("adapters", 0, lambda tree: change_shapes(tree["header"], ["a", 10**12])),
]


@pytest.mark.parametrize("name, seed, change", FOUND)
def test_found(name, seed, change, tmp_path):
    reader = BY_NAME[name]
    path = tmp_path / "work" / reader.folder / reader.file
    path.parent.mkdir(parents=True)
    data, codec = reader.seeds(path.parent)[seed], CODECS[reader.codec]
    if name != "Ego-Exo4D":
        assert outcome(reader, path, data).kind == ACCEPTED
    tree = codec.decode(data)
    change(tree)
    found = outcome(reader, path, codec.encode(tree))
    assert found.kind == REFUSED, found
