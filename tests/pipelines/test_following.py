"""Videos that follow tracks: from a job to latents, and all that is told of it."""

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.pipelines import open_pipeline
from tavid_jax.weights import save_flextraj
from tests.pipelines import tiny

SIZE_HW, FRAMES = (32, 48), 9
LEARNED = dict(in_channels=8, use_learned_positional_embeddings=True)
KINDS = {
    "cogvideox": ("cogvideox-5b-i2v", "blocks/attn/(q|k|v|o)"),
    "wan": ("wan2.2-ti2v-5b", "blocks/(attn/(q|k|v|o)|cross/(q|o))"),
}


def control_file(pipeline, path, kind):
    """A file as the released ones are, of random numbers."""
    part = pipeline.parts["transformer"]
    config = part.opened.config
    rules = (LoraRule(KINDS[kind][1], 3, stream="condition"),)
    module = part.module.clone(lora=rules)
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), np.zeros((1,)), method="embed_time")["params"]
    )
    rng = np.random.default_rng(5)
    fuse = {"kernel": (config.dim, config.dim), "bias": (config.dim,)}
    params = {
        "lora": jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3), shapes["lora"]),
        "fuse": {name: rng.normal(size=shape, scale=0.2) for name, shape in fuse.items()},
    }
    params = jax.tree.map(np.float32, params)
    return save_flextraj(path, params, kind, config, rules)


@pytest.fixture(scope="module", params=KINDS)
def opened(request, tmp_path_factory):
    """(base, the same with a file of control)."""
    kind, (name, _) = request.param, KINDS[request.param]
    folder = tmp_path_factory.mktemp(kind)
    if kind == "cogvideox":
        tiny.cogvideox_folder(folder / "base", 90, transformer=LEARNED)
    else:
        sizes = dict(in_channels=6, out_channels=6)
        tiny.wan_folder(folder / "base", 40, transformer=sizes, vae=tiny.WAN_VAE_2)
    base = open_pipeline(name, folder / "base", strict=False)
    file = control_file(base, folder / "control.safetensors", kind)
    return base, open_pipeline(name, folder / "base", control=file, strict=False)
