"""`.pth` files without PyTorch: what it writes is read, what is written it reads, nothing runs."""

import collections
import io
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.weights.files import read_file
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.torch_pickle import UnknownContent, read_pickle
from tavid_jax.weights.torch_zip import read_torch_zip, write_torch_zip

torch = pytest.importorskip("torch")

CHECKOUT = Path(__file__).resolve().parents[2]

KINDS = (np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.int64, np.int32, np.int16)
KINDS += (np.int8, np.uint8, np.bool_)


@pytest.fixture
def tensors():
    """One of each dtype, and unusual shapes."""
    rng = np.random.default_rng(0)
    state = {f"of.{np.dtype(k).name}": (9 * rng.normal(size=(3, 4))).astype(k) for k in KINDS}
    state |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float16)}
    return state | {"transposed": rng.normal(size=(4, 3)).astype(np.float32).T, "ü": np.ones(1)}


def values(tensor):
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


@pytest.mark.parametrize("mmap", [False, True])
def test_pytorch_reads_what_is_written(tmp_path, tensors, mmap):
    write_torch_zip(tmp_path / "a.pth", tensors)
    back = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mmap)
    assert type(back) is collections.OrderedDict and list(back) == list(tensors)
    for key, want in tensors.items():
        assert str(back[key].dtype) == f"torch.{want.dtype}"
        np.testing.assert_array_equal(values(back[key]), want.astype(values(back[key]).dtype))


def test_what_is_written_comes_back_exactly(tmp_path, tensors):
    write_torch_zip(tmp_path / "a.pth", tensors)
    back = read_torch_zip(tmp_path / "a.pth")
    assert list(back) == list(tensors)
    for key, want in tensors.items():
        assert (back[key].shape, back[key].dtype) == (want.shape, want.dtype)
        assert back[key].read().tobytes() == want.tobytes()


def test_plain_values_stand_beside_tensors(tmp_path, tensors):
    plain = dict(vid="ä b", none=None, yes=True, no=False, whole=-3, large=2**40, half=0.5)
    write_torch_zip(tmp_path / "a.pt", plain | tensors)
    back = torch.load(tmp_path / "a.pt", weights_only=True)
    assert {key: back[key] for key in plain} == plain and list(back) == [*plain, *tensors]
    ours = read_torch_zip(tmp_path / "a.pt")
    assert {key: ours[key] for key in plain} == plain
    for key, want in tensors.items():
        assert ours[key].read().tobytes() == want.tobytes()
    with pytest.raises(weights.WeightsError, match="x is 11805.*, neither a tensor nor a"):
        write_torch_zip(tmp_path / "b.pt", {"x": 2**70})


def test_equal_tensors_are_equal_bytes(tmp_path, tensors):
    for name in "ab":
        write_torch_zip(tmp_path / name, tensors)
    first = (tmp_path / "a").read_bytes()
    assert first == (tmp_path / "b").read_bytes()
    for info in zipfile.ZipFile(tmp_path / "a").infolist():  # storages can be mapped
        start = first.index(info.filename.encode(), info.header_offset) + len(info.filename)
        start += int.from_bytes(first[info.header_offset + 28 :][:2], "little")
        assert start % 64 == 0


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    write_torch_zip(path, {"x": np.zeros(3, np.float32)})
    before = path.read_bytes()
    with pytest.raises(weights.WeightsError, match="a.pth: y has dtype complex64, unknown to"):
        write_torch_zip(path, {"x": np.ones(3, np.float32), "y": np.ones(2, np.complex64)})

    def full(number):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_torch_zip(path, {"x": np.ones(3, np.float32)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_pytorch_writes_is_read(tmp_path, tensors, protocol):
    """Views, shared storages, parameters, and the values that training scripts save beside."""
    whole = torch.arange(24.0).reshape(4, 6)
    state = {k: torch.tensor(v.astype(np.float32)) for k, v in tensors.items()}
    state |= {"view": whole[1:3, ::2], "turned": whole.T, "spread": whole[:1].expand(3, 6)}
    state |= {"parameter": torch.nn.Parameter(whole[2]), "bf16": whole.bfloat16()}
    saved = {"model": state, "step": 7, "big": 2**40, "lr": 1e-4, "names": ["a", ("b", None, True)]}
    torch.save(saved, tmp_path / "last.pt", pickle_protocol=protocol)
    back = read_torch_zip(tmp_path / "last.pt")
    assert {k: v for k, v in back.items() if k != "model"} == {
        k: v for k, v in saved.items() if k != "model"
    }
    assert list(back["model"]) == list(state)
    for key, want in state.items():
        got = back["model"][key]
        assert isinstance(got, LazyArray) and got.shape == tuple(want.shape)
        np.testing.assert_array_equal(got.read().astype(np.float32), want.detach().float().numpy())
        assert got.read().flags.c_contiguous


def test_a_state_dict_of_a_module(tmp_path):
    """With the versions that modules leave on it."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    torch.save(module.state_dict(), tmp_path / "m.pth")
    back = read_torch_zip(tmp_path / "m.pth")
    assert back.keys() == module.state_dict().keys()
    for key, want in module.state_dict().items():
        np.testing.assert_array_equal(back[key].read(), want.numpy())


def test_pytorch_need_not_be_there(tmp_path):
    torch.save({"x": torch.ones(3)}, tmp_path / "a.pth")
    torch.save({"x": torch.ones(3), "s": torch.Size([2])}, tmp_path / "b.pth")
    torch.save({"x": torch.ones(3)}, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    program = """
import sys
sys.modules["torch"] = None
from tavid_jax.weights.files import read_file
one, *others = sys.argv[1:]
print(read_file(one)["x"].read().sum())
for file in others:
    try:
        read_file(file)
    except ValueError as error:
        print(error)
"""
    files = [str(tmp_path / f"{name}.pth") for name in "abc"]
    run = subprocess.run(
        [sys.executable, "-c", program, *files], cwd=CHECKOUT, capture_output=True, text=True
    )
    one, two, three = run.stdout.splitlines()
    assert one == "3.0"
    assert "b.pth: reading this file needs PyTorch, because it holds torch.Size (" in two
    assert "c.pth: reading this file needs PyTorch, because it is no zip archive" in three


def test_what_pytorch_alone_knows_is_left_to_it(tmp_path):
    torch.save({"x": torch.ones(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    saved = {"model": {"x": torch.ones(3)}, "shape": torch.Size([3]), "dtype": torch.float32}
    torch.save(saved, tmp_path / "more.pth")
    for name in ("old.pth", "more.pth"):
        np.testing.assert_array_equal(read_file(tmp_path / name, ["model"])["x"].read(), np.ones(3))


def test_tensors_are_read_when_asked_for(tmp_path):
    path = tmp_path / "a.pth"
    write_torch_zip(path, {"x": np.ones(3, np.float32), "y": np.ones(300, np.float32)})
    back = read_torch_zip(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(weights.WeightsError, match="a.pth became shorter while it was read"):
        back["y"].read()


# --- files that are not usable


def damaged(tmp_path, change):
    """A file of one tensor whose records were changed: name -> bytes, None to leave out."""
    path = tmp_path / "bad.pth"
    write_torch_zip(path, {"x": np.arange(6, dtype=np.float32)})
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    records |= change(records)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            if data is not None:
                archive.writestr(name, data)
    return path


PICKLE = "archive/data.pkl"
DAMAGES = {
    "no pickle": (lambda r: {PICKLE: None}, "0 files data.pkl in it"),
    "two pickles": (lambda r: {"other/data.pkl": r[PICKLE]}, "2 files data.pkl in it"),
    "no storage": (lambda r: {"archive/data/0": None}, "archive/data/0"),
    "a short storage": (
        lambda r: {"archive/data/0": b"\0" * 20},
        "archive/data/0 has 20 bytes for 6 elements",
    ),
    "an empty pickle": (lambda r: {PICKLE: b""}, "pickle"),
    "half a pickle": (lambda r: {PICKLE: r[PICKLE][:-9]}, "newline|expected|exhausted"),
    "nothing on the stack": (lambda r: {PICKLE: b"\x80\x02."}, "damaged pickle"),
    "a list as a function": (lambda r: {PICKLE: b"\x80\x02])R."}, "a list where a _Global is due"),
    "a storage that is called": (lambda r: {PICKLE: b"ctorch\nFloatStorage\n)R."}, "is called"),
    "a tensor beyond its storage": (
        lambda r: {PICKLE: r[PICKLE].replace(b"(J\6\0\0\0t", b"(J\7\0\0\0t")},
        "storage '0' is smaller than a tensor in it",
    ),
    "a negative size": (
        lambda r: {PICKLE: r[PICKLE].replace(b"(J\6\0\0\0t", b"(J\xff\xff\xff\xfft")},
        "must not be negative",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files(tmp_path, name):
    change, words = DAMAGES[name]
    path = damaged(tmp_path, change)
    with pytest.raises(weights.WeightsError, match=f"bad.pth: damaged, .*({words})"):
        read_file(path)


def test_files_that_are_cut_off(tmp_path):
    path = tmp_path / "cut.pth"
    write_torch_zip(path, {"x": np.arange(60, dtype=np.float32)})
    whole = path.read_bytes()
    for size in (4, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(weights.WeightsError, match=rf"cut.pth: damaged, .*\({size} bytes; "):
            read_file(path)


def test_whatever_bytes_are_changed(tmp_path):
    """Tensors or one of our errors; nothing else."""
    path = tmp_path / "a.pth"
    write_torch_zip(path, {"x": np.ones((2, 3), np.float32), "y": np.ones(4, np.float16)})
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(600):
        changed = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(len(whole), size=rng.choice([1, 2, 8]))
        changed[where] = rng.integers(256, size=where.size)
        path.write_bytes(changed.tobytes())
        try:
            for tensor in read_torch_zip(path).values():
                tensor.read()
        except (weights.WeightsError, UnknownContent):
            refused += 1
    assert 200 < refused < 500


def test_compressed_records_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
    with pytest.raises(weights.WeightsError, match="a.pth: damaged, .*compressed"):
        read_torch_zip(path)


def test_numbers_of_the_other_byte_order_are_left_to_pytorch(tmp_path):
    path = damaged(tmp_path, lambda r: {"archive/byteorder": b"big"})
    with pytest.raises(UnknownContent, match="big-endian numbers"):
        read_torch_zip(path)
    want = np.arange(6, dtype=np.float32).view(">f4")
    np.testing.assert_array_equal(read_file(path)["x"].read(), want.astype(np.float32))


class Trap:
    """Opens a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


class Stateful:
    """Asks for its own class, and for attributes to be set."""

    def __init__(self):
        self.state = 3


def test_nothing_in_a_file_is_run(tmp_path):
    cases = {Trap(tmp_path / "sprung"): "io.open", Stateful(): f"{__name__}.Stateful"}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for value, name in cases.items():
            data = pickle.dumps({"x": value}, protocol)
            # Oldest protocols rebuild objects by a function of copyreg.
            name = f"{re.escape(name)}|copy_reg._reconstructor"
            with pytest.raises(UnknownContent, match=name):
                read_pickle(data, lambda stored: stored)
    assert not (tmp_path / "sprung").exists()


def test_other_opcodes_are_not_known():
    for data, name in (
        (b"\x82\x01.", "EXT1"),
        (b"(cos\nsystem\no.", "os.system"),
        (b"(ios\nx\n.", "INST"),
    ):
        with pytest.raises(UnknownContent, match=name):
            read_pickle(data, lambda stored: stored)
    stored = io.BytesIO()
    torch.save(torch.ones(2).to_sparse(), stored)
    with zipfile.ZipFile(stored) as archive, pytest.raises(UnknownContent, match="sparse"):
        read_pickle(archive.read("archive/data.pkl"), lambda stored: stored)
