"""Examples on disk: exact, whole or not there, and honest about what they are."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

from tavid_jax.data.records import RecordError, RecordSource, RecordWriter, decode, encode


def example(i=0):
    rng = np.random.default_rng(i)
    return {
        "id": f"scene-{i} é",
        "latents": rng.normal(size=(3, 4, 2)).astype(np.float32),
        "half": rng.normal(size=(5,)).astype(ml_dtypes.bfloat16),
        "double": np.array([np.nan, np.inf, 1 / 3]),
        "seen": rng.random((2, 3)) > 0.5,
        "video": rng.integers(0, 255, (2, 3, 3)).astype(np.uint8),
        "empty": np.zeros((0, 3), np.int64),
        "scalar": np.float32(0.1),
        "fps": 0.1,
        "step": i,
        "flag": True,
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, np.ndarray | np.generic):
            assert b[key].dtype == value.dtype and b[key].shape == value.shape
            assert b[key].tobytes() == value.tobytes()
        else:
            assert type(b[key]) is type(value) and b[key] == value


def test_every_type_survives_to_the_bit():
    assert_same(example(), decode(encode(example())))


def test_views_that_are_not_contiguous_survive():
    array = np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    np.testing.assert_array_equal(decode(encode({"x": array}))["x"], array)


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([{}], object), [1, 2], None])
def test_other_types_are_refused_by_key(value):
    with pytest.raises(RecordError, match="key 'words': cannot store"):
        encode({"words": value})


@pytest.mark.parametrize("record", [b"", b"ab", b"\x04\x00\x00\x00null", encode(example())[:200]])
def test_broken_bytes_are_refused(record):
    with pytest.raises(RecordError, match="broken record"):
        decode(record)


@pytest.fixture
def folder(tmp_path):
    with RecordWriter(tmp_path / "cache", {"config": "1a2b", "size": (64, 64)}) as writer:
        for i in range(7):
            writer.write(example(i))
    return tmp_path / "cache"


def test_what_is_written_is_read_in_any_order(folder):
    source = RecordSource(folder, {"config": "1a2b", "size": (64, 64)})
    assert len(source) == 7 and source.name == "cache" and source.meta["config"] == "1a2b"
    for i in (6, 0, 3, -1):
        assert_same(example(i % 7), source[i])
    with pytest.raises(IndexError):
        source[7]
    assert [p.name for p in folder.parent.iterdir()] == ["cache"]


def test_source_travels_and_serves_threads(folder):
    source = pickle.loads(pickle.dumps(RecordSource(folder)))
    order = np.random.default_rng(0).integers(0, 7, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        for i, got in zip(order, pool.map(source.__getitem__, order), strict=True):
            assert got["step"] == i


def test_other_facts_are_refused_and_listed(folder):
    with pytest.raises(RecordError, match="config: stored '1a2b', wanted '9f'; seed: stored None"):
        RecordSource(folder, {"config": "9f", "seed": 1, "size": [64, 64]})


def test_an_error_inside_leaves_the_old_folder(folder):
    with pytest.raises(KeyError), RecordWriter(folder, {"config": "new"}) as writer:
        writer.write(example(9))
        raise KeyError("boom")
    assert len(RecordSource(folder, {"config": "1a2b"})) == 7
    assert [p.name for p in folder.parent.iterdir()] == ["cache"]


def test_a_second_writer_replaces_the_folder(folder):
    with RecordWriter(folder, {"config": "new"}) as writer:
        writer.write(example(9))
    assert len(RecordSource(folder, {"config": "new"})) == 1


def test_absent_truncated_and_broken_folders_are_named(folder, tmp_path):
    with pytest.raises(RecordError, match="nowhere: holds no finished examples"):
        RecordSource(tmp_path / "nowhere")
    data, meta = folder / "examples.array_record", folder / "meta.json"
    whole = data.read_bytes()
    data.write_bytes(whole[:-50])
    with pytest.raises(RecordError, match=f"holds {len(whole) - 50} bytes of {len(whole)}"):
        RecordSource(folder)
    data.unlink()
    with pytest.raises(RecordError, match="holds 0 bytes"):
        RecordSource(folder)
    meta.write_text("{")
    with pytest.raises(RecordError, match="meta.json is broken"):
        RecordSource(folder)


def test_a_flipped_byte_is_noticed(folder):
    data = folder / "examples.array_record"
    content = bytearray(data.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - b for b in content[middle : middle + 64])
    data.write_bytes(content)
    with pytest.raises(RecordError, match="example . cannot be read|is broken"):
        source = RecordSource(folder)
        for i in range(7):
            assert_same(example(i), source[i])


def test_writing_outside_the_context_is_refused(tmp_path):
    with pytest.raises(RecordError, match="write inside"):
        RecordWriter(tmp_path / "x").write(example())
