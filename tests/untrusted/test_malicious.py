"""Files made to run code or to take all memory: refused by name, and nothing has run."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tavid_jax.data.arrays import (
    ArrayFileError,
    ForbiddenContentError,
    read_npy,
    read_npz,
    read_pickle,
)
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import TrackFileError, read_tracks
from tavid_jax.data.rle_masks import all_masks
from tavid_jax.data.trajectory_files import read_trajectories
from tavid_jax.pipelines.latent_cache.reader import LatentCacheError, read_clip
from tavid_jax.trajloombench.sources import Unusable, read_tapvid
from tavid_jax.weights import torch_pickle
from tavid_jax.weights.files import read_file, read_torch
from tavid_jax.weights.problems import WeightsError


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def _tapvid(path: Path):
    (item,) = read_tapvid(path)
    assert isinstance(item, Unusable)
    raise ClipError(item.reason)


def _npy(value) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(value, object), allow_pickle=True)
    return out.getvalue()


def _npz(value) -> bytes:
    out = io.BytesIO()
    np.savez(out, tracks=np.array([value], object))
    return out.getvalue()


def _torch(value, zipped: bool) -> bytes:
    out = io.BytesIO()
    torch.save({"w": value}, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


# What reads it, its name, how it is packed, the error and what that tells.
READERS = [
    (read_pickle, "x.pkl", pickle.dumps, ForbiddenContentError, "(posix|os).system"),
    (read_trajectories, "x.pkl", pickle.dumps, ForbiddenContentError, "(posix|os).system"),
    (all_masks, "x.pkl", pickle.dumps, ForbiddenContentError, "(posix|os).system"),
    (_tapvid, "x.pkl", pickle.dumps, ClipError, "(posix|os).system"),
    (read_npy, "x.npy", _npy, ForbiddenContentError, "(posix|os).system"),
    (read_trajectories, "x.npy", _npy, ForbiddenContentError, "(posix|os).system"),
    (read_npz, "x.npz", _npz, ArrayFileError, "'tracks' holds an array of objects"),
    (read_tracks, "x.npz", _npz, TrackFileError, "'tracks' holds an array of objects"),
    (read_torch, "x.pt", lambda value: _torch(value, True), WeightsError, "(posix|os).system"),
    (read_torch, "x.pt", lambda value: _torch(value, False), WeightsError, "(posix|os).system"),
    (read_file, "x.pth", pickle.dumps, WeightsError, "damaged, neither a zip archive"),
    (read_clip, "x.pt", lambda value: _torch(value, True), LatentCacheError, "(posix|os).system"),
]


@pytest.mark.parametrize(
    "read, name, pack, error, words", READERS, ids=lambda one: getattr(one, "__name__", "")
)
def test_code_is_refused_by_name_and_does_not_run(read, name, pack, error, words, tmp_path):
    path, marker = tmp_path / name, tmp_path / "marker"
    path.write_bytes(pack(Payload(marker)))
    with pytest.raises(error, match=words) as caught:
        read(path)
    assert name in str(caught.value) and not marker.exists()
    assert pickle.loads(pickle.dumps(Payload(marker))) == 0 and marker.exists()  # it would have


def test_frames_in_one_another_are_refused(tmp_path):
    def framed(data: bytes) -> bytes:
        return b"\x95" + struct.pack("<Q", len(data)) + data

    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04" + framed(b"]" + b"0]") + framed(b"0]."))  # one behind another
    assert read_pickle(path) == []
    path.write_bytes(b"\x80\x04" + framed(b"]0" + framed(b"].")))
    with pytest.raises(ArrayFileError, match=r"x.pkl.*frames lie in one another"):
        read_pickle(path)


@pytest.mark.filterwarnings("error")
def test_old_texts_with_bad_escapes_are_refused():
    with pytest.raises(ValueError, match="damaged pickle .*escape"):
        torch_pickle.read_pickle(b"S'\\o'\n.", lambda stored: stored)


def _header(shape: str, kind: str = "<f8", order: bool = False) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "shape, kind",
    [
        ("(1000000000000,)", "<f8"),
        ("(100000, 100000, 2)", "<f4"),
        ("(-1,)", "<f4"),
        ("(0, 1000000000000)", "<f4"),
        ("(1000000000000,)", "<U0"),
        ("(" + "1, " * 40 + ")", "<f4"),
        ("(99999999999999999999999999,)", "<f4"),
        ("(3,)", "<Z9"),
    ],
)
def test_headers_that_claim_more_than_there_is(shape, kind, tmp_path):
    npy, npz = tmp_path / "x.npy", tmp_path / "x.npz"
    npy.write_bytes(_header(shape, kind) + bytes(64))
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy.read_bytes())
    for read, path in ((read_npy, npy), (read_npz, npz)):
        with pytest.raises(ArrayFileError, match=path.name):
            read(path)


def test_bombs(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.npy", _header("(4000000,)") + bytes(32_000_000))
    assert path.stat().st_size < 50_000 and read_npz(path)["a"].shape == (4_000_000,)
    monkeypatch.setenv("TAVID_LIMIT_ARRAY_BYTES", "1e6")
    with pytest.raises(ArrayFileError, match="bomb.npz: refused: its arrays, unpacked"):
        read_npz(path)
    monkeypatch.undo()
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (3_000_000_000).to_bytes(4, "little")  # a lie about what it unpacks to
    path.write_bytes(data)
    with pytest.raises(ArrayFileError, match="made to take memory"):
        read_npz(path)


def _doubled(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "data, words",
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "memory beyond its own size"),
        (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.", "its nesting"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00" + b"x.", "damaged pickle"),
        (b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "more than 64 bits"),
        (pickle.dumps(_doubled(40)), "its values"),
        (b"\x80\x04" + b"]" * 80 + b"a" * 79 + b".", "its nesting"),
        (b"cnumpy\nndarray\n(tR.", "damaged"),
        (b"(inumpy\nndarray\n.", "opcode INST"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02Pabc\n.", "an object outside of it"),
    ],
)
def test_pickles_that_take_memory_or_overflow(data, words, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(ArrayFileError, match=f"x.pkl.*{words}"):
        read_pickle(path)


def test_tensors_of_endless_size(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"w": torch.ones(1).expand(10**12)}, path)
    with pytest.raises(WeightsError, match="x.pt.*far smaller than a tensor in it"):
        read_torch(path)
    torch.save({"w": torch.ones(1).expand(1000)}, path)
    assert read_torch(path)["w"].read().shape == (1000,)


def test_old_checkpoints_that_are_archives_or_text_are_not_given_to_pytorch(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"storages" + bytes(600))
    with pytest.raises(WeightsError, match="x.pt: damaged, neither a zip archive nor"):
        read_torch(path)
