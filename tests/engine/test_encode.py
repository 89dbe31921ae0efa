"""Encode stages: interrupted ones go on; what examples share reaches those who read them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.common import encode_stage
from tavid_jax.engine.method import EncodeMethod
from tavid_jax.engine.placement import InitError
from tests.engine import toy

OFFSET = np.linspace(-1, 1, toy.DIM).astype(np.float32)


class Shared(toy.Source):
    """Examples with something in common."""

    shared = {"offset": OFFSET, "unknown": np.zeros(2)}


class Inputs(toy.ToyInputs):
    """Three files of examples, made by the method."""

    def open(self, name: str) -> Any:
        return Shared(super().open(name)) if name == "encode" else super().open(name)

    def encode(self, name: str, folder: Path, method: EncodeMethod, progress: Any) -> None:
        folder.mkdir(exist_ok=True)
        missing = [i for i in range(3) if not (folder / str(i)).exists()]
        made = method.examples([f"words {i}" for i in missing], iter(missing))
        for done, (i, example) in enumerate(zip(missing, made, strict=True), 1):
            (folder / str(i)).write_text(str(example["x"]))
            progress(done, len(missing))


class Doubling(EncodeMethod):
    """`interrupt_at`: the clip at which a signal comes."""

    def __init__(self, interrupt_at: int = -1):
        self.interrupt_at, self.seen = interrupt_at, []

    def examples(self, captions, clips):
        for clip in clips:
            self.seen.append(clip)
            if clip == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield {"x": 2 * clip}


class Moved(toy.Fit):
    """Reads what its examples share as a parameter."""

    def init(self, rng):
        return super().init(rng) | {"offset": jnp.zeros(toy.DIM)}

    def forward(self, params, x):
        return super().forward(params, x + params["offset"])


def config(**fit: Any) -> ConfigDict:
    made = toy.toy_config(**dict(data="encode", cached_by=("encode",)) | fit)
    with made.unlocked():
        made.stages.encode = encode_stage()
    made.order = ("stats", "encode", "fit")
    return made


def run(folder: Path, method: EncodeMethod | None = None, **fit: Any):
    system = toy.ToySystem(encode=method or Doubling(), fit=Moved())
    return toy.run(folder, config(**fit), inputs=Inputs(), system=system)


def test_what_examples_share_reaches_their_readers(tmp_path: Path):
    """Without being named: it comes with the examples."""
    results = run(tmp_path / "run")
    np.testing.assert_array_equal(results.params("encode")["offset"], OFFSET)
    assert set(results.params("fit")) == {"net"}
    plain = toy.run(tmp_path / "plain").params("fit")["net"]["head"]["kernel"]
    assert not np.allclose(results.params("fit")["net"]["head"]["kernel"], plain)
    assert results.seconds["encode"] > 0
    with pytest.raises(InitError, match="offset is frozen in Moved but none of the stages"):
        toy.run(tmp_path / "alone", system=toy.ToySystem(fit=Moved()))


def test_an_interrupted_stage_keeps_what_is_finished(tmp_path: Path, caplog):
    with pytest.raises(SystemExit) as left:
        run(tmp_path, Doubling(interrupt_at=1))
    assert left.value.code == 75
    assert "encode keeps the shards that are finished" in caplog.text
    folder = tmp_path / "stages" / "encode"
    assert sorted(p.name for p in (folder / "cache").iterdir()) == ["0", "1"]
    assert not (folder / "done.json").exists()
    again = Doubling()
    run(tmp_path, again)
    assert again.seen == [2] and (folder / "done.json").exists()


def test_what_nobody_reads_is_not_made(tmp_path: Path, caplog):
    """So that one option makes a run train from its clips."""
    caplog.set_level("INFO")
    method = Doubling()
    system = toy.ToySystem(encode=method)
    toy.run(tmp_path, config(data="train"), inputs=Inputs(), system=system)
    assert not method.seen and "encode: no stage reads it" in caplog.text
    assert not (tmp_path / "stages" / "encode" / "cache").exists()
    toy.run(tmp_path, config(data="train"), inputs=Inputs(), system=system)


def test_a_method_without_examples_is_told():
    method = EncodeMethod()
    for ask in (method.facts, method.requirements, lambda: method.examples([], iter([]))):
        with pytest.raises(TypeError, match="EncodeMethod defines no (facts|examples)"):
            ask()
    assert method.shared() == {}
