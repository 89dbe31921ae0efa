"""Clips that eight devices encode are those of one."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax.pipelines.backbones import Geometry
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.opening import open_encoders
from tests.models.random_weights import relative_error
from tests.pipelines import tiny
from tests.pipelines.clips import Clips

WAN = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)


def test_every_device_takes_a_clip(tmp_path):
    """The last batch is filled up; images are read beside the videos."""
    tiny.wan_folder(tmp_path / "model", 420, transformer=WAN, clip=True)
    clips = Clips((32, 48), 5)
    many = open_encoders(
        "wan2.1-i2v-14b",
        tmp_path / "model",
        Geometry(5, (32, 48)),
        memory=Memory(keep="host"),
        strict=False,
    )
    assert dict(many.mesh.shape)["fsdp"] == 8
    one = dataclasses.replace(many, mesh=None, memory=Memory())
    words = [clip.caption for clip in clips]
    want = list(one.examples(words, iter(clips)))
    for part in many.parts.values():
        part._kept.clear()
    for got, example in zip(many.examples(words, iter(clips)), want, strict=True):
        for name, value in example.items():
            assert got[name].dtype == value.dtype
            near = relative_error(got[name].astype(np.float32), value.astype(np.float32))
            assert near < (0.02 if value.dtype.name == "bfloat16" else 1e-4), name
