"""Pickled arrays are read, and nothing that a file holds is run."""

import collections
import os
import pickle

import numpy as np
import pytest

from tavid_jax.data import arrays
from tavid_jax.data.arrays import ArrayFileError, ForbiddenContentError


def value():
    rng = np.random.default_rng(0)
    return {
        "tracks": rng.random((1, 3, 4, 3)).astype(np.float32),
        "visibility": rng.random((1, 3, 4)) > 0.5,
        "more": [np.float64(3.0), (1, "a", b"b", None), np.array(["x", "yz"])],
        "big endian": np.arange(3, dtype=">i4"),
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 2)),
        "objects": np.array([{"a": np.arange(2)}, [1, 2]], object),
        "ordered": collections.OrderedDict(b=1, a=2),
    }


def check_equal(got, want):
    assert type(got) is (dict if isinstance(want, dict) else type(want))
    if isinstance(want, dict):
        assert list(got) == list(want)
        got, want = list(got.values()), list(want.values())
    if isinstance(want, list | tuple):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            check_equal(one, other)
    elif isinstance(want, np.ndarray) and want.dtype == object:
        check_equal(got.tolist(), want.tolist())
    else:
        np.testing.assert_array_equal(got, want)
        assert getattr(got, "dtype", None) == getattr(want, "dtype", None)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values_are_read(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(value(), protocol))
    check_equal(arrays.read_pickle(path), value())


def test_npy_files(tmp_path):
    np.save(tmp_path / "dict.npy", value())
    check_equal(arrays.read_npy(tmp_path / "dict.npy"), value())
    np.save(tmp_path / "plain.npy", np.arange(4))
    check_equal(arrays.read_npy(tmp_path / "plain.npy"), np.arange(4))
    (tmp_path / "ours.npy").write_bytes(arrays.npy_bytes(value()))
    theirs = np.load(tmp_path / "ours.npy", allow_pickle=True).item()
    assert list(theirs) == list(value())
    np.testing.assert_array_equal(theirs["tracks"], value()["tracks"])


def test_a_value_that_holds_itself_and_freed_stand_ins(tmp_path):
    loop = [1]
    loop.append(loop)
    many = np.array([np.full(2, n) for n in range(50)] + [None], object)
    for name, held in (("loop", loop), ("many", many)):
        (tmp_path / name).write_bytes(pickle.dumps(held))
    got = arrays.read_pickle(tmp_path / "loop")
    assert got[0] == 1 and got[1] is got
    assert [item[0] for item in arrays.read_pickle(tmp_path / "many")[:-1]] == list(range(50))


class Runs:
    """What runs a function when Python unpickles it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "wrapped", [lambda bad: bad, lambda bad: {"tracks": np.zeros(2), "x": bad}]
)
def test_code_in_a_file_is_refused_and_not_run(tmp_path, protocol, wrapped):
    proof = tmp_path / "it ran"
    bad = wrapped(Runs(os.mkdir, str(proof)))
    data = pickle.dumps(bad, protocol)
    (tmp_path / "bad.pkl").write_bytes(data)
    np.save(tmp_path / "bad.npy", np.array(bad, object), allow_pickle=True)
    for read, name in ((arrays.read_pickle, "bad.pkl"), (arrays.read_npy, "bad.npy")):
        with pytest.raises(
            ForbiddenContentError, match=rf"{name}: refused.*names (posix|nt)\.mkdir"
        ):
            read(tmp_path / name)
    assert not proof.exists()
    pickle.loads(data)  # Python's own unpickler does run it
    assert proof.exists()


@pytest.mark.parametrize(
    ("function", "name"),
    [(eval, "eval"), (getattr, "getattr"), (np.load, "numpy.load"), (np.frombuffer, "frombuffer")],
)
def test_other_functions_are_refused_by_name(tmp_path, function, name):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Runs(function, "1")))
    with pytest.raises(ForbiddenContentError, match=name):
        arrays.read_pickle(tmp_path / "bad.pkl")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        # An array of objects whose "objects" are bytes: numpy would take them for addresses.
        (b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8I0\nI1\ntR", "object|function or class"),
        (b"cnumpy\ndtype\n(X\x05\x00\x00\x00f4,O8I0\nI1\ntR", "numpy dtype 'f4,O8'"),
        (b"cnumpy\ndtype\n(X\x02\x00\x00\x00V8I0\nI1\ntR", "numpy dtype 'V8'"),
        (b"cnumpy\nndarray\n", "function or class"),
        (b"X\x01\x00\x00\x00aQ", "an object outside"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(NX\x05\x00\x00\x00_make}s\x86b", "damaged"),
    ],
)
def test_crafted_programs_are_refused(tmp_path, program, words):
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x02" + program + b".")
    with pytest.raises(ArrayFileError, match=words):
        arrays.read_pickle(tmp_path / "bad.pkl")


def test_bytes_are_never_taken_for_objects(tmp_path):
    honest = pickle.dumps(np.array([1], object), 2)
    # The list of objects, ]...a, replaced by a text: an array of objects filled with raw bytes.
    start = honest.index(b"\x89]") + 1
    stop = honest.index(b"a", start) + 1
    (tmp_path / "bad.pkl").write_bytes(
        honest[:start] + b"X\x08\x00\x00\x00aaaaaaaa" + honest[stop:]
    )
    with pytest.raises(ArrayFileError, match="array of objects that is no list"):
        arrays.read_pickle(tmp_path / "bad.pkl")


@pytest.mark.parametrize("read", [arrays.read_npz, arrays.read_npy, arrays.read_pickle])
def test_absent_empty_and_damaged_files_are_named(tmp_path, read):
    (tmp_path / "empty").touch()
    (tmp_path / "damaged").write_bytes(b"\x93NUMPY no, nor PK")
    for name, words in (("absent", "no such file"), ("empty", "empty"), ("damaged", "")):
        with pytest.raises(ArrayFileError, match=f"{name}.*{words}"):
            read(tmp_path / name)


def test_a_cut_off_file_is_damaged(tmp_path):
    data = pickle.dumps(value())
    (tmp_path / "cut.pkl").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArrayFileError, match="cut.pkl: the pickle in it is damaged"):
        arrays.read_pickle(tmp_path / "cut.pkl")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(ArrayFileError, match="objects.npz: cannot be read"):
        arrays.read_npz(tmp_path / "objects.npz")
