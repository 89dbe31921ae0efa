"""Features by towers from checkpoints: names, batches, and checkpoints of other models."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.vision.clip import CLIPVision
from tavid_jax.models.vision.images import clip_preprocess, dino_preprocess
from tavid_jax.models.vision.vit import ViT
from tavid_jax.scoring import CLIPFeatures, CLIPPair, DINOFeatures, Features, ScoringError, towers


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (11, 40, 60, 3), dtype=np.uint8)


def test_dino(checkpoints, frames):
    provider, seen = DINOFeatures(checkpoints / "dino"), []
    assert isinstance(provider, Features)
    got = provider(frames, lambda done, total: seen.append((done, total)))
    assert seen == [(8, 11), (11, 11)]
    opened = weights.open_parameters(checkpoints / "dino")
    given = jnp.asarray(dino_preprocess(frames, 32, 8))
    assert given.shape == (11, 32, 48, 3)
    want = ViT(opened.config).apply({"params": towers.read_float32(opened)}, given)
    np.testing.assert_allclose(got, want, atol=1e-4)
    about = provider.describe()
    assert about["name"] == provider.name == "vit"  # of no published size
    assert about["weights"] == opened.fingerprint()


def test_clip(checkpoints, frames):
    provider = CLIPFeatures(checkpoints / "clip")
    opened = weights.open_parameters(checkpoints / "clip")
    given = jnp.asarray(clip_preprocess(frames, 32))
    want = CLIPVision(opened.config).apply(
        {"params": towers.read_float32(opened)}, given, method="features"
    )
    np.testing.assert_allclose(provider(frames), want, atol=1e-4)
    assert provider.describe()["name"] == "clip"


def test_published_sizes_have_their_names(checkpoints, monkeypatch):
    monkeypatch.setattr(
        towers, "open_parameters", lambda source: _published(weights.open_parameters(source))
    )
    assert DINOFeatures(checkpoints / "dino").name == "dino-vit-b-16"
    assert CLIPFeatures(checkpoints / "clip").name == "clip-vit-b-32"


def _published(opened):
    """The same tensors under the published name of their kind."""
    import dataclasses

    names = {"vit": "dino-vit-b-16", "clip_vision": "clip-vit-b-32-vision"}
    return dataclasses.replace(opened, preset=names[opened.name])


def test_checkpoints_of_other_models_are_refused(checkpoints):
    with pytest.raises(ScoringError, match=r"--dino .*owlvit: holds a model \(kind owlvit\)"):
        DINOFeatures(checkpoints / "owlvit")
    with pytest.raises(ScoringError, match="CLIP ViT-B/32 .* is needed here"):
        CLIPFeatures(checkpoints / "dino")
    with pytest.raises(weights.WeightsError, match="nothing|no checkpoint|not there|no such|exist"):
        DINOFeatures(checkpoints / "none")


def test_tower_without_projection_is_refused(checkpoints, tmp_path):
    import dataclasses

    opened = weights.open_parameters(checkpoints / "clip")
    params = towers.read_float32(opened)
    del params["head"]
    plain = dataclasses.replace(opened.config, feature_dim=None)
    weights.save("clip_vision", params, plain, tmp_path / "plain")
    with pytest.raises(ScoringError, match="without the projection"):
        CLIPFeatures(tmp_path / "plain")


@pytest.mark.parity
def test_pair_is_that_of_transformers(checkpoints):
    """From pictures and texts to features: preprocessing, tokens, both towers, projections."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder, texts = checkpoints / "pair", ["a red box", "two cats, one dog"]
    pictures = [
        np.random.default_rng(k).integers(0, 256, (40 + k, 60, 3), np.uint8) for k in (0, 9)
    ]
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    ids = tokenizer(texts, padding="max_length", max_length=16, truncation=True)["input_ids"]
    pixels = np.stack([clip_preprocess(picture[None], 32)[0] for picture in pictures])
    with torch.no_grad():
        given = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        want = model(input_ids=torch.tensor(ids), pixel_values=given)
    provider = CLIPPair(folder)
    for got, theirs in (
        (provider.pictures(pictures), want.image_embeds),
        (provider.texts(texts), want.text_embeds),
    ):
        unit = got / np.linalg.norm(got, axis=-1, keepdims=True)
        np.testing.assert_allclose(unit, theirs.numpy(), atol=1e-5)
    np.testing.assert_array_equal(provider.texts(texts[::-1]), provider.texts(texts)[::-1])
    with pytest.raises(ScoringError, match="both towers"):
        CLIPPair(checkpoints / "clip")
