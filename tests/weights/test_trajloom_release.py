"""TrajLoom's release: files as training scripts left them, configs, and what does not fit."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch

from tavid_jax import weights
from tavid_jax.models.latte.flow import TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig
from tavid_jax.weights.table import walk
from tavid_jax.weights.torch_zip import write_torch_zip
from tavid_jax.weights.trajloom_configs import flow_config, vae_config, visibility_config
from tavid_jax.weights.trajloom_release import is_trajloom_release, open_trajloom_release

SIZES = dict(size_hw=(16, 24), patch=8, num_frames=9, latent_channels=3)
CONFIGS = {
    "vae": TrackVAEConfig(
        **SIZES, hidden=12, heads=3, encoder_depth=4, decoder_depth=2, pos_embed_dim=6
    ),
    "flow": TrackFlowConfig(**SIZES, hidden=16, heads=2, depth=2, video_channels=4, text_dim=5),
    "visibility": VisibilityConfig(latent_channels=3, hidden=7, depth=2),
}
KINDS = {
    "vae": "trajloom_vae",
    "flow": "trajloom_flow",
    "visibility": "trajloom_visibility",
}
FILES = {
    "vae": "trajloom_vae.pt",
    "flow": "trajloom_generator.pt",
    "visibility": "visibility_predictor.pt",
}
VAE_JSON = {
    "encoder_depth": 4,
    "decoder_depth": 2,
    "hidden_size": 12,
    "num_heads": 3,
    "patch_size": 8,
    "in_channels": 2,
    "latent_channels": 3,
    "input_height": 16,
    "input_width": 24,
    "num_frames_in": 9,
    "num_frames_latent": 3,
    "use_offsets": True,
    "num_frame_tokens": 256,
    "learn_sigma": False,
    "beta": 5e-5,
    "pos_embed_dim": 6,
}
FLOW_JSON = {
    "latent_channels": 3,
    "num_frames_latent": 3,
    "input_height": 16,
    "input_width": 24,
    "patch_size": 8,
    "hidden_size": 16,
    "num_heads": 2,
    "depth": 2,
    "dropout": 0.0,
    "video_latent_channels": 4,
    "text_embed_dim": 5,
    "num_frames_in": 9,
    "spatial_ctx_pool": 1,
    "video_ctx_mode": "concat",
    "track_fusion_scale_init": 0.1,
    "use_hist_vis_cond": True,
}
VISIBILITY_JSON = {"latent_channels": 3, "hidden": 7, "depth": 2, "use_delta_to_hist": False}
JSONS = {
    "trajloom_vae_config.json": {"data": {}, "trajloom_vae": {"config": VAE_JSON}, "train": {}},
    "trajloom_generator_config.json": {
        "generator": FLOW_JSON,
        "trajloom_vae": {"ckpt_path": "x", "config": VAE_JSON},
        "train": {"x0_mode": "anchor_first"},
    },
    "vis_predictor_config.json": {
        "predictor": VISIBILITY_JSON,
        "trajectory_vae": {"config": VAE_JSON | {"temp_method": "conv", "use_dino": False}},
    },
}


@functools.cache
def shapes_of(name: str, config) -> dict[str, tuple[int, ...]]:
    """Of the original's tensors, without buffers."""
    kind = weights.CHECKPOINTS[KINDS[name]]
    shapes = {path: leaf.shape for path, leaf in walk(kind.shapes(config))}
    rows = kind.table(config).rows
    return {key: row.source_shape(shapes[row.path]) for row in rows for key in row.keys()}


def state(name: str, config=None, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors under the original's keys."""
    config, rng = config or CONFIGS[name], np.random.default_rng(seed)
    shapes = shapes_of(name, config)
    tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    derived = weights.CHECKPOINTS[KINDS[name]].table(config).derived
    return tensors | {d.source: d.value() for d in derived}


@pytest.fixture
def folder(tmp_path):
    """A release with its JSON files."""
    for name, file in FILES.items():
        write_torch_zip(tmp_path / file, state(name))
    (tmp_path / "configs").mkdir()
    for file, content in JSONS.items():
        (tmp_path / "configs" / file).write_text(json.dumps(content))
    return tmp_path


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_release_with_its_configs(folder):
    release = open_trajloom_release(folder)
    assert {name: part.config for name, part in release.parts.items()} == CONFIGS
    assert release.training == {"x0_mode": "anchor_first"} and release.statistics is None
    assert is_trajloom_release(folder) and not is_trajloom_release(folder / "configs")
    leaf = release.parts["flow"].leaves["in_proj/kernel"].read()
    np.testing.assert_array_equal(leaf, state("flow")["in_proj.weight"].T)
    paths = {name: folder / file for name, file in FILES.items()}
    again = open_trajloom_release({**paths, "configs": folder / "configs"})
    assert [p.fingerprint() for p in again.parts.values()] == [
        p.fingerprint() for p in release.parts.values()
    ]


@pytest.mark.parametrize(
    ("name", "containers"),
    [
        ("vae", ("vae", "model_state_dict")),
        ("flow", ("generator", "model", "state_dict", "model_state_dict")),
        ("visibility", ("model", "predictor", "state_dict", "model_state_dict")),
    ],
)
def test_containers_in_order_of_preference(tmp_path, name, containers):
    """As torch writes them: the first of them counts, whatever stands beside it; or none."""
    path, kind = tmp_path / "file.pt", weights.CHECKPOINTS[KINDS[name]]

    def read() -> np.ndarray:
        found = weights.identify(path, KINDS[name], CONFIGS[name]).source.tensors
        assert set(found) == {kind.sign, "x"}
        return found["x"].read()

    for i, container in enumerate(containers):
        tensors = {kind.sign: torch.zeros(2), "x": torch.full((3,), float(i))}
        decoys = {other: {"y": torch.zeros(1)} for other in containers[i + 1 :]}
        torch.save({"step": 3, **decoys, container: tensors, "optimizer": {"lr": [0.1]}}, path)
        np.testing.assert_array_equal(read(), np.full(3, i))
    torch.save({kind.sign: torch.zeros(2), "x": torch.full((3,), 9.0)}, path)
    np.testing.assert_array_equal(read(), np.full(3, 9))


def test_the_config_inside_of_the_vae(tmp_path):
    path = tmp_path / "trajloom_vae.pt"
    tensors = {key: torch.tensor(a) for key, a in state("vae").items()}
    torch.save({"vae": tensors, "cfg": {"vae": VAE_JSON, "train": {"lr": 1.0}}}, path)
    assert weights.identify(path).config == CONFIGS["vae"]
    assert weights.identify(path, "trajloom_vae", CONFIGS["vae"]).config == CONFIGS["vae"]
    # Which pixel is read is nothing that a file states.
    centre = dataclasses.replace(CONFIGS["vae"], query_row_col=(4, 4))
    assert weights.identify(path, config=centre).config == centre
    with pytest.raises(weights.WeightsError, match="heads: 3 in its cfg, 4 here"):
        weights.identify(path, config=dataclasses.replace(CONFIGS["vae"], heads=4))


def test_configs_with_defaults_and_old_names():
    old = {
        "num_layers": 4,
        "input_channels": 2,
        "in_frames": 9,
        "latent_frames": 3,
        "kl_weight": 0.1,
        "encoder_depth": 6,
    }
    config = vae_config(old, "x")
    assert (config.encoder_depth, config.decoder_depth, config.num_frames) == (6, 4, 9)
    # The public class's own defaults, not the released values.
    assert (config.hidden, config.patch, config.use_offsets) == (384, 8, False)
    assert flow_config({"generator": {"depth": 8}}, "x").video_ctx_mode == "sum"
    assert visibility_config({"predictor": {"hidden": 5}}, "x").hidden == 5
    assert flow_config(JSONS["vis_predictor_config.json"], "x") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(num_frames_latent=4), "num_frames_latent is 4, but 9 frames .* make 3"),
        (lambda c: c.update(in_channels=3), "in_channels is 3"),
        (
            lambda c: c.update(widht=3),
            "'widht' is no field of TrackVAEConfig; there are dec",
        ),
        (lambda c: c.update(hidden_size=13), "describes no model: .*hidden 13"),
    ],
    ids=["latent_frames", "channels", "unknown", "impossible"],
)
def test_configs_that_make_no_model(change, words):
    section = dict(VAE_JSON)
    change(section)
    with pytest.raises(weights.WeightsError, match=words):
        vae_config({"trajloom_vae": {"config": section}}, "file.json")


def test_files_that_state_different_models(folder):
    file = folder / "configs" / "trajloom_generator_config.json"
    rewrite(file, lambda c: c["trajloom_vae"]["config"].update(num_heads=4, hidden_size=16))
    with pytest.raises(weights.WeightsError, match="two configs of the vae disagree") as caught:
        open_trajloom_release(folder)
    assert "hidden: 12 in " in str(caught.value) and "heads: 3 in " in str(caught.value)


def test_a_checkpoint_of_another_config_names_the_fields(folder):
    file = folder / "configs" / "trajloom_generator_config.json"
    change = dict(depth=4, hidden_size=24, mlp_ratio=3.0, video_latent_channels=6)
    rewrite(file, lambda c: c["generator"].update(change, use_text_cond=False))
    with pytest.raises(weights.WeightsError) as caught:
        open_trajloom_release(folder)
    for words in (
        "trajloom_generator.pt as trajloom_flow: a checkpoint of another config",
        "depth: 2 in the file, 4 in the config",
        "hidden: 16 in the file, 24 in the config",
        "mlp_ratio: 4.0 in the file, 3.0 in the config",
        "video_channels: 4 in the file, 6 in the config",
        "use_text_cond: True in the file, False in the config",
    ):
        assert words in str(caught.value)
    assert "in_proj" not in str(caught.value)  # no list of tensors beside


def test_without_a_config_it_is_the_published_one(folder):
    for file in (folder / "configs").iterdir():
        file.unlink()
    with pytest.raises(weights.WeightsError, match="fields that differ from the published") as c:
        open_trajloom_release(folder)
    assert "encoder_depth: 4 in the file, 16 in the config" in str(c.value)
    assert "size_hw: (16, 24) in the file, (480, 832) in the config" in str(c.value)


def test_networks_of_two_releases(folder):
    other = dataclasses.replace(CONFIGS["visibility"], latent_channels=4)
    write_torch_zip(folder / FILES["visibility"], state("visibility", other))
    file = folder / "configs" / "vis_predictor_config.json"
    rewrite(file, lambda c: c["predictor"].update(latent_channels=4))
    with pytest.raises(weights.WeightsError, match="do not fit together") as caught:
        open_trajloom_release(folder)
    assert "latent_channels: 3 of the vae, 4 of the visibility" in str(caught.value)


def test_files_in_each_others_place(folder):
    (folder / FILES["flow"]).write_bytes((folder / FILES["vae"]).read_bytes())
    with pytest.raises(weights.WeightsError, match="of kind trajloom_vae, not trajloom_flow"):
        open_trajloom_release(folder)
    # Also where the container is the VAE's.
    torch.save({"vae": {k: torch.tensor(a) for k, a in state("vae").items()}}, folder / "v.pt")
    with pytest.raises(weights.WeightsError, match="of kind trajloom_vae, not trajloom_flow"):
        weights.identify(folder / "v.pt", "trajloom_flow", CONFIGS["flow"])


def test_damaged_and_missing_files(folder):
    whole = (folder / FILES["vae"]).read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"PK\x03\x04nothing"):
        (folder / FILES["vae"]).write_bytes(part)
        with pytest.raises(weights.WeightsError, match=r"trajloom_vae\.pt: (damaged|refused)"):
            open_trajloom_release(folder)
    (folder / FILES["vae"]).unlink()
    with pytest.raises(weights.WeightsError, match=r"(?s)no TrajLoom release.*trajloom_vae\.pt"):
        open_trajloom_release(folder)
    with pytest.raises(weights.WeightsError, match=r"(?s)unknown.*generator.*missing.*flow"):
        open_trajloom_release({"vae": "a", "generator": "b", "visibility": "c"})
    with pytest.raises(weights.WeightsError, match="is no folder"):
        open_trajloom_release(folder / "nowhere")


class _Code:
    def __reduce__(self):
        return (print, ("run",))


def test_no_code_in_a_checkpoint_is_run(folder, capsys):
    tensors = {key: torch.tensor(a) for key, a in state("flow").items()}
    torch.save({"generator": tensors, "args": _Code()}, folder / FILES["flow"])
    with pytest.raises(weights.WeightsError, match="refused"):
        open_trajloom_release(folder)
    assert capsys.readouterr().out == ""
