"""Files that have changed are named; what was sealed and is whole passes."""

import os
from pathlib import Path

import pytest

from tavid_jax.engine.seal import NAME, SealError, check_seal, seal


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    (folder / "d").mkdir(parents=True)
    (folder / "d" / "weights").write_bytes(os.urandom(1000))
    (folder / "manifest").write_bytes(b"m")
    seal(folder)
    return folder


def test_whole_files_pass(sealed: Path, tmp_path: Path):
    check_seal(sealed)
    (tmp_path / "older").mkdir()
    check_seal(tmp_path / "older")  # from before there were seals


@pytest.mark.parametrize("place", range(0, 1000, 333))
def test_one_flipped_bit_is_named(sealed: Path, place: int):
    content = bytearray((sealed / "d" / "weights").read_bytes())
    content[place] ^= 1
    (sealed / "d" / "weights").write_bytes(content)
    with pytest.raises(SealError, match="state/d/weights has changed since it was written"):
        check_seal(sealed)


def test_a_missing_file_and_a_broken_seal_are_named(sealed: Path):
    (sealed / "manifest").unlink()
    with pytest.raises(SealError, match="state/manifest is missing"):
        check_seal(sealed)
    (sealed / NAME).write_text("{")
    with pytest.raises(SealError, match="state/sha256.json is damaged"):
        check_seal(sealed)
