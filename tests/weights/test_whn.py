"""WHN's checkpoints: exact both ways, and files as its trainer writes them."""

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.whn.config import WhnConfig, WhnVAEConfig
from tavid_jax.weights import identified
from tavid_jax.weights.table import walk

SMALL = dict(num_frames=3, hidden=16, heads=2, frame_dim=12, fourier_dim=8)
TRACKS = dict(channels=2, patch=2, raw=True, depth=2)
CONFIGS = {
    "latte_latent": WhnConfig(grid_hw=(4, 4), depth=4, frame_grid_hw=(2, 2), **SMALL),
    "latte_raw_text": WhnConfig(
        grid_hw=(4, 4), frame_grid_hw=(2, 2), text_dim=6, **TRACKS, **SMALL
    ),
    "latte_rect": WhnConfig(grid_hw=(4, 6), frame_grid_hw=(2, 3), **TRACKS, **SMALL),
    "vae": WhnVAEConfig(
        grid_hw=(4, 4), latent_channels=3, encoder_depth=2, decoder_depth=2, frame_grid_hw=(2, 2),
        **SMALL,
    ),
}  # fmt: skip


def kind(name: str) -> str:
    return "whn_vae" if name == "vae" else "whn"


@pytest.fixture
def state(goldens):
    def load(name: str) -> dict[str, np.ndarray]:
        stored = goldens(f"whn_{name}_tiny")
        return {k[3:]: v for k, v in stored.items() if k.startswith("sd/")}

    return load


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip_is_exact(name, state):
    """Tables of places and times included, which are parameters that nothing trains."""
    stored = state(name)
    params = weights.port(kind(name), stored, CONFIGS[name])
    back = weights.export(kind(name), params, CONFIGS[name])
    assert set(back) == set(stored)
    for key, value in stored.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)


def trained_file(path, state, **more):
    """As its trainer saves: averages, optimiser, schedule and counters beside the weights."""
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([weight], lr=6e-5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, step / 1440))
    weight.sum().backward()
    optimiser.step()
    schedule.step()
    saved = {
        "model_state_dict": {f"module._orig_mod.{k}": v for k, v in tensors.items()},
        "ema_state_dict": {f"_orig_mod.{k}": 2 * v for k, v in tensors.items()},
        "optimizer_state_dict": optimiser.state_dict(),
        "lr_scheduler_state_dict": schedule.state_dict(),
        "step": 7,
        "epoch": 310,
        "wandb": "run-id",
        **more,
    }
    torch.save(saved, path)
    return path


def test_a_trainers_file_is_read_without_its_optimiser(tmp_path, state, monkeypatch):
    stored, config = state("latte_latent"), CONFIGS["latte_latent"]
    monkeypatch.setattr(identified, "PRESETS", {"tiny": config, "other": CONFIGS["latte_rect"]})
    path = trained_file(tmp_path / "ckpt_epoch=310.pt", stored)
    found = weights.identify(path)
    assert (found.name, found.config, found.preset) == ("whn", config, None)
    want = dict(walk(weights.port("whn", stored, config)))
    for name, factor in (("whn", 1), ("whn_ema", 2)):
        read = dict(walk(weights.load(name, path)))
        assert read.keys() == want.keys()
        for key, value in want.items():
            np.testing.assert_array_equal(read[key], factor * value, err_msg=key)


def test_a_file_with_objects_says_how_to_convert_it(tmp_path, state):
    import fractions

    path = trained_file(tmp_path / "a.pt", state("vae"), settings=fractions.Fraction(1, 3))
    with pytest.raises(weights.WeightsError, match="fractions.Fraction") as caught:
        weights.identify(path, "whn_vae", CONFIGS["vae"])
    assert "weights_only=False" in str(caught.value)


def test_a_vae_is_told_from_a_denoiser_and_from_trajlooms(tmp_path, state, goldens):
    for name in CONFIGS:
        path = trained_file(tmp_path / f"{name}.pt", state(name))
        assert weights.identify(path, config=CONFIGS[name]).name == kind(name)
    stored = goldens("trajloom_vae_tiny")
    theirs = {k[3:]: v for k, v in stored.items() if k.startswith("sd/")}
    assert weights.CHECKPOINTS["whn_vae"].sign not in theirs
