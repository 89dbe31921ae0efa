"""Edits of tracks from files."""

import json

import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.data.edit_files import read_edits
from tavid_jax.tracks.edits import Edit


def test_edits_of_another_frame_size(tmp_path):
    path = tmp_path / "edits.json"
    edits = [
        {"what": "move", "by": [4, -2], "region": [-0.5, 0, 9.5, 20]},
        {"what": "scale", "by": 2},
        {"what": "still"},
    ]
    path.write_text(json.dumps({"edits": edits}))
    plain = [Edit("move", (4.0, -2.0), (-0.5, 0.0, 9.5, 20.0)), Edit("scale", 2.0), Edit("still")]
    assert read_edits(path, (100, 200)) == plain
    path.write_text(json.dumps({"size_hw": [50, 100], "edits": edits}))
    first, *rest = read_edits(path, (100, 200))
    assert first == Edit("move", (8.0, -4.0), (-0.5, 0.5, 19.5, 40.5)) and rest == plain[1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON of edits"),
        ("[]", 'holds no object with "edits", a list'),
        ('{"edits": [], "size": 3}', r"it has unknown keys \['size'\]; known are edits, size_hw"),
        ('{"edits": [3]}', 'edit 1 is no object with "what"'),
        ('{"edits": [{"what": "move", "to": 1}]}', r"edit 1 has unknown keys \['to'\]"),
        ('{"edits": [{"what": "turn"}]}', "edit 1: no edit 'turn'"),
        ('{"edits": [{"what": "scale", "by": "x"}]}', "edit 1: 'by' and 'region' are numbers"),
        ('{"edits": [{"what": "still"}], "size_hw": [0, 3]}', "size_hw must be"),
    ],
)
def test_bad_input(tmp_path, content, message):
    path = tmp_path / "edits.json"
    path.write_text(content)
    with pytest.raises(ClipError, match=f"{path}: .*{message}|{path}: {message}"):
        read_edits(path, (40, 60))
