"""A few inputs for every reader; `python -m tests.fuzz` tries a hundred thousand."""

import random
from pathlib import Path

import pytest

from tests.fuzz.campaign import Campaign
from tests.fuzz.codecs import CODECS
from tests.fuzz.mutations import mutated
from tests.fuzz.oracle import REFUSED, outcome
from tests.fuzz.readers import READERS, Reader

INPUTS = 8


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_reader_refuses_what_it_cannot_read_by_an_error_of_its_own(reader, tmp_path):
    campaign = Campaign(reader, tmp_path / "work", seed=1, told=lambda tally: None)
    tally = campaign.run(INPUTS)
    assert tally.inputs >= INPUTS and tally.edges > 5
    assert not {place: fault.words for place, (fault, _) in tally.faults.items()}


@pytest.mark.parametrize(
    "read, kind",
    [
        (lambda path: {}["x"], "foreign error"),
        (lambda path: bytes(10**15), "memory"),
        (lambda path: [None for _ in iter(int, 1)], "hang"),
        (lambda path: __import__("warnings").warn("old", stacklevel=1), "foreign error"),
    ],
)
def test_oracle_finds_faults(read, kind, tmp_path: Path):
    reader = Reader("bad", "x", read, lambda folder: [b""], "raw", seconds=0.2)
    found = outcome(reader, tmp_path / "x", b"abc")
    assert found.is_fault and found.kind == kind


def test_oracle_wants_the_file_named(tmp_path: Path):
    from tavid_jax.data.clip import ClipError

    def unnamed(path):
        raise ClipError("it is broken")

    def named(path):
        raise ClipError(f"{path}: it is broken")

    for read, kind in ((unnamed, "names no file"), (named, REFUSED)):
        reader = Reader("one", "clip.json", read, lambda folder: [b""], "raw")
        assert outcome(reader, tmp_path / "clip.json", b"").kind == kind


def test_inputs_that_reach_new_edges_are_kept(tmp_path: Path):
    (reader,) = (reader for reader in READERS if reader.name == "edits")
    campaign = Campaign(reader, tmp_path / "work", seed=0, told=lambda tally: None)
    before = campaign.run(2).edges
    assert campaign.run(60).edges > before and len(campaign._corpus) > len(campaign.seeds)


def test_mutations_are_those_of_the_seed():
    made = [mutated(random.Random(3), b'{"a": [1, 2]}', b"x", CODECS["json"]) for _ in range(2)]
    assert made[0] == made[1]
