"""Checkpoints and results: complete or not there, damaged ones never taken for whole."""

import contextlib
import logging
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tavid_jax.engine import checkpoint
from tavid_jax.engine.checkpoint import (
    CheckpointError,
    Checkpoints,
    load_result,
    save_result,
)
from tavid_jax.engine.copies import Copies
from tests.engine import toy

# Reading a damaged file leaves callbacks of the storage library behind that find no event loop.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

META = {"data_step": 1, "seconds": {"step": 2.5}}


def state_of(value: float, size: int = 1000) -> dict:
    noise = np.random.default_rng(int(value)).normal(size=size).astype(np.float32)
    return {
        "weights": {"a": jnp.asarray(noise + value), "b": jnp.full((2, 3), value)},
        "step": jnp.int32(value),
        "rng": jax.random.key(int(value)),
    }


def same(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y, strict=True)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 1, 2, 3."""
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state_of(step), {**META, "data_step": step})
    return tmp_path / "c"


def restore(folder: Path, like=None):
    with Checkpoints(folder, keep=3) as checkpoints:
        return checkpoints.restore_latest(state_of(0) if like is None else like)


def test_round_trip_keeps_values_keys_and_meta(three: Path):
    state, meta = restore(three)
    same(state, state_of(3))
    assert meta == {"data_step": 3, "seconds": {"step": 2.5}}
    assert restore(three.parent / "empty") is None


def test_oldest_are_dropped_and_a_step_is_saved_once(tmp_path: Path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state_of(step), META, wait=True)
        checkpoints.save(3, state_of(7), META, wait=True)
        assert checkpoints.steps() == [2, 3]
        same(checkpoints.restore_latest(state_of(0))[0], state_of(3))


def test_state_may_be_donated_right_after_saving(tmp_path: Path):
    change = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)
    state = {"w": jnp.asarray(np.random.default_rng(0).normal(size=500_000), jnp.float32)}
    expected = np.array(state["w"])
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, state, META)
        jax.block_until_ready(change(state))
        like = {"w": jnp.zeros(500_000)}
        checkpoints.wait()
        np.testing.assert_array_equal(checkpoints.restore_latest(like)[0]["w"], expected)


@pytest.mark.parametrize(
    ("part", "how"),
    [
        ("state", "truncate"),
        ("state", "delete"),
        ("state", "folder"),
        ("state/ocdbt.process_0", "flip"),
        ("meta/metadata", "flip"),
        ("state/ocdbt.process_0", "truncate"),
        ("state/_METADATA", "truncate"),
        ("state/manifest.ocdbt", "delete"),
        ("state/array_metadatas", "delete"),
        ("meta/metadata", "truncate"),
        ("meta/metadata", "delete"),
        ("", "folder"),
    ],
)
def test_damaged_checkpoint_falls_back_and_says_so(three: Path, caplog, part: str, how: str):
    place = three / "3" / part
    if place.is_file() and how == "flip":
        place.write_bytes(place.read_bytes().replace(b"2.5", b"2.4"))
    elif place.is_file():
        content = place.read_bytes()
        place.unlink()
        if how == "truncate":
            place.write_bytes(content[: len(content) // 2])
    else:
        toy.damage(place, how)
    with caplog.at_level(logging.WARNING, "absl"):
        state, meta = restore(three)
    same(state, state_of(2))
    assert meta["data_step"] == 2
    # asyncio may mention Orbax's abandoned reads whenever it collects them: that is not ours.
    said = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert len(said) == 2, said  # once what is wrong, once what is done; nothing of Orbax
    assert f"checkpoint in {three} cannot be used; step 3: " in said[0]
    assert said[1] == "falling back to the checkpoint of step 2"
    # Out of the way of the new step 3, and not thrown away.
    assert (three / "unusable" / "3").exists()
    with Checkpoints(three, keep=3) as checkpoints:
        checkpoints.save(3, state_of(30), META)
    same(restore(three)[0], state_of(30))


def test_half_written_folders_are_ignored(three: Path):
    (three / "4.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    same(restore(three)[0], state_of(3))


@pytest.mark.parametrize("kind", [None, "device", "pinned_host"])
def test_a_copy_is_of_its_own(kind: str | None):
    state = state_of(5)
    copy = Copies().of(state, kind)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(copy), strict=True):
        assert b.sharding.memory_kind == (kind or a.sharding.memory_kind)
        assert not jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) or b.dtype == a.dtype
    expected = state_of(5)
    jax.block_until_ready(
        jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)(
            state["weights"]
        )
    )
    same(jax.device_put(copy, jax.tree.map(lambda x: x.sharding, expected)), expected)


def test_copies_take_the_room_of_the_one_before():
    copies = Copies()
    copies.make_room(state_of(1))()
    first = copies.of(state_of(2))
    where = first["weights"]["a"].unsafe_buffer_pointer()
    del first
    second = copies.of(state_of(3))
    assert second["weights"]["a"].unsafe_buffer_pointer() == where
    same(second, state_of(3))
    same(copies.of(state_of(4, size=777)), state_of(4, size=777))  # other shapes


def test_what_waits_in_the_hosts_memory_is_saved(tmp_path: Path):
    state = Copies().of(state_of(5), "pinned_host")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, META)
        checkpoints.wait()
        same(checkpoints.restore_latest(state_of(0))[0], state_of(5))


OTHER = {
    "shape": ({"weights": {"a": jnp.zeros(999)}}, r"weights/a is float32\[1000\], expected .*999"),
    "dtype": ({"step": jnp.float32(0)}, r"step is int32\[\], expected float32\[\]"),
    "key": ({"rng": jnp.zeros(3, jnp.uint32)}, r"rng is uint32\[2\], expected uint32\[3\]"),
    "missing": ({"more": jnp.zeros(3)}, "more is missing"),
}


@pytest.mark.parametrize("kind", OTHER)
def test_checkpoint_of_another_structure_is_refused(three: Path, kind: str):
    changes, message = OTHER[kind]
    like = state_of(0)
    like["weights"] |= changes.pop("weights", {}) if "weights" in changes else {}
    with pytest.raises(CheckpointError, match="none of the checkpoints in .*" + message) as refused:
        restore(three, like | changes)
    assert "delete the folder to train this stage again" in str(refused.value)


def test_plain_words_are_not_taken_for_a_key(three: Path):
    """Orbax would hand out raw uint32 words where a typed key was saved, and the other way."""
    with pytest.raises(CheckpointError, match="rng"):
        restore(three, state_of(0) | {"rng": jnp.zeros(2, jnp.uint32)})


def test_unexpected_part_is_refused(three: Path):
    like = state_of(0)
    del like["weights"]["b"]
    with pytest.raises(CheckpointError, match="weights/b is unexpected"):
        restore(three, like)


def test_nothing_usable_names_every_reason(three: Path):
    for step in ("1", "2", "3"):
        toy.damage(three / step / "state", "truncate")
    with pytest.raises(CheckpointError) as refused:
        restore(three)
    for part in (str(three), "step 3: ", "step 2: ", "step 1: ", "--workdir"):
        assert part in str(refused.value)


@contextlib.contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: what a full disk looks like to a writer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_one_clear_message_and_costs_nothing(tmp_path: Path, caplog):
    folder = tmp_path / "c"
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.save(1, state_of(1), META)
    with full_disk(100_000), pytest.raises(CheckpointError) as refused:
        with Checkpoints(folder, keep=3) as checkpoints:
            checkpoints.save(2, state_of(2, size=200_000), META, wait=True)
    assert str(refused.value) == (
        f"the checkpoint of step 2 cannot be written to {folder} (File too large); the one of "
        "step 1 is intact. Free space or make the folder writable, then run the same command again"
    )
    assert not caplog.records
    same(restore(folder)[0], state_of(1))
    with Checkpoints(folder, keep=3) as checkpoints:  # once there is space again
        checkpoints.save(2, state_of(2), META)
    same(restore(folder)[0], state_of(2))


def test_failed_writer_is_noticed_without_waiting(tmp_path: Path):
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        with full_disk(100_000):
            checkpoints.save(1, state_of(1, size=200_000), META)
            with pytest.raises(CheckpointError, match="step 1 cannot .* there is none before"):
                for _ in range(1000):
                    checkpoints.check()
                    time.sleep(0.01)


def test_failure_while_leaving_does_not_hide_the_first_error(tmp_path: Path, caplog):
    with full_disk(100_000), pytest.raises(ZeroDivisionError):
        with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
            checkpoints.save(1, state_of(1, size=200_000), META)
            raise ZeroDivisionError
    assert "step 1 cannot be written" in caplog.text


RESULT = {
    "stats": {"mean": np.float64(1 / 3), "count": np.array(7), "std": np.arange(4.0) / 3},
    "net": {"w": np.ones((2, 3), ml_dtypes.bfloat16), "on": np.array(True)},
    "big": np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32),
}


def test_result_round_trip_keeps_dtypes(tmp_path: Path):
    save_result(tmp_path / "result", RESULT, {"seed": 1})
    loaded = load_result(tmp_path / "result")
    for path, leaf in toy_flat(RESULT).items():
        found = toy_flat(loaded)[path]
        assert isinstance(found, np.ndarray) and found.dtype == leaf.dtype, path
        np.testing.assert_array_equal(found, leaf)
    save_result(tmp_path / "result", {"a": np.ones(2)}, {"seed": 1})  # replaces
    assert set(load_result(tmp_path / "result")) == {"a"}


def toy_flat(tree) -> dict:
    return dict(jax.tree_util.tree_leaves_with_path(tree))


def test_empty_result(tmp_path: Path):
    save_result(tmp_path / "result", {}, {"seed": 1})
    assert load_result(tmp_path / "result") == {}


@pytest.mark.parametrize("how", ["truncate", "delete", "folder", "flip"])
def test_damaged_result_is_named(tmp_path: Path, how: str):
    folder = tmp_path / "result"
    save_result(folder, RESULT, {"seed": 1})
    if how == "flip":  # one number changed behind our back
        changed = RESULT | {"big": RESULT["big"].copy()}
        changed["big"][0, 0] += 1
        save_result(tmp_path / "other", changed, {"seed": 1})
        (folder / "meta" / "metadata").write_bytes(
            (tmp_path / "other" / "meta" / "metadata").read_bytes()
        )
    else:
        toy.damage(folder, how)
    with pytest.raises(CheckpointError, match=f"{folder} is damaged .*run --mode=train again"):
        load_result(folder)


def test_missing_result_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match="none is not there: the stage .* has not finished"):
        load_result(tmp_path / "none")


def test_result_on_a_full_disk(tmp_path: Path):
    with (
        full_disk(10_000),
        pytest.raises(CheckpointError, match=r"result cannot be written \(File"),
    ):
        save_result(tmp_path / "result", RESULT, {"seed": 1})
    with pytest.raises(CheckpointError, match="is not there"):
        load_result(tmp_path / "result")


def test_a_result_beside_a_checkpoint_that_has_just_begun(tmp_path: Path):
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        for step in range(1, 13):
            checkpoints.save(step, state_of(step), META)
            save_result(tmp_path / "result", RESULT, {"seed": step})
    same(load_result(tmp_path / "result"), RESULT)


def test_answers_that_come_when_all_is_over_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A failed write leaves others on their way, whose threads find no one to tell."""
    shown: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: shown.append(str(told.exc_value)))
    monkeypatch.setattr(checkpoint, "_former_hook", [])
    with Checkpoints(tmp_path, keep=1):
        pass
    for message in ("Event loop is closed", "something else"):
        sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(message)))
    assert shown == ["something else"]
