"""Trained adapters: what checkpoints and files hold, that all tools compute alike, stages."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from tavid_jax import weights
from tavid_jax.engine import trees
from tavid_jax.engine.placement import InitError
from tavid_jax.methods.finetune.method import BACKBONE, Finetune
from tavid_jax.methods.registry import make_system
from tavid_jax.pipelines import open_pipeline
from tavid_jax.pipelines.pretrained import locate
from tests.engine import toy
from tests.methods.finetune import trained

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from tests.pipelines import tiny  # noqa: E402
from tests.weights.adapters import FILE, inputs, their_output  # noqa: E402

# Without rotary positions, which diffusers' pipeline makes and not its model.
FIXED = {"use_rotary_positional_embeddings": False}
FAMILIES = {
    "wan": tiny.wan_folder,
    "cogvideox": functools.partial(tiny.cogvideox_folder, transformer=FIXED),
}
NAMES = {"wan": "wan2.1-t2v-1.3b", "cogvideox": "cogvideox-5b"}


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


class Run:
    """A trained adapter of a tiny model."""

    def __init__(self, family: str, folder: Path):
        self.family, self.folder = family, folder
        self.checkpoint, self.model = folder / "published", folder / "run" / "model"
        self.torch = FAMILIES[family](self.checkpoint)["transformer"].eval()
        self.config = trained.config_of(self.checkpoint)
        self.method, self.result = trained.train(folder / "run", self.config)
        self.export()

    def export(self, mark: str = "w") -> None:
        system = make_system(self.config)
        system.export(trained.results_of(self.result, mark), self.model)

    @property
    def params(self) -> dict[str, Any]:
        """The trained tree: the published base, and the adapters."""
        base = weights.load(None, self.checkpoint)
        return base | {"lora": self.result[BACKBONE]["lora"]}

    def output(self, params: dict[str, Any], module: Any = None) -> np.ndarray:
        return output(self.method, params, module)


def output(method: Finetune, params: dict[str, Any], module: Any = None) -> np.ndarray:
    module = module or method.backbone.model
    latents, text = map(jnp.asarray, inputs(module.config))
    time = jnp.array([999, 40])
    apply = jax.jit(lambda p: module.apply({"params": p}, latents, time, text))
    return np.asarray(apply(params))


@pytest.fixture(scope="module", params=FAMILIES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(request.param, tmp_path_factory.mktemp(request.param))


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


def test_a_checkpoint_holds_the_adapters_alone(run: Run):
    adapters = {f"{BACKBONE}/lora/{path}" for path in trees.flatten(run.result[BACKBONE]["lora"])}
    assert set(trees.flatten(run.result)) == adapters
    state = toy.saved_state(run.folder / "run", stage="finetune")
    arrays = {path for path, array in state.items() if array.ndim and "rng" not in path}
    assert arrays and all("['lora']" in path for path in arrays)
    # Weights and two moments, and a little for the format.
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(run.result))
    base = sum(leaf.nbytes for leaf in jax.tree.leaves(weights.load(None, run.checkpoint)))
    assert sum(state[path].nbytes for path in arrays) == 3 * held < base


def test_the_file_is_that_of_diffusers(run: Run):
    assert sorted(p.name for p in run.model.iterdir()) == ["base.json", FILE]
    tensors = load_file(run.model / FILE)
    held = sum(leaf.size for leaf in jax.tree.leaves(run.result))
    assert sum(array.size for array in tensors.values()) == held
    assert all(key.startswith("transformer.") and ".lora_" in key for key in tensors)


def test_loaded_back_it_computes_what_was_trained(run: Run):
    wanted = run.output(run.params)
    bare = run.method.backbone.model.clone(lora=())
    assert np.abs(wanted - run.output(weights.load(None, run.checkpoint), bare)).max() > 1e-3
    for pipeline in (
        open_pipeline(NAMES[run.family], run.checkpoint, lora=run.model / FILE, strict=False),
        open_pipeline(run.model),
    ):
        part = pipeline.parts["transformer"]
        with part.hold() as params:
            close(run.output(params, part.module), wanted)


def test_diffusers_computes_what_was_trained(run: Run):
    """At scale 1.5; with alpha in the metadata, and where it is not read."""
    wanted = run.output(run.params)
    config = run.method.backbone.model.config
    model = run.torch
    model.load_lora_adapter(run.model, weight_name=FILE, prefix="transformer", adapter_name="a")
    close(their_output(model, config), wanted)
    model.delete_adapters("a")
    tensors = {
        key.removeprefix("transformer."): torch.tensor(value)
        for key, value in load_file(run.model / FILE).items()
    }
    model.load_lora_adapter(tensors, prefix=None, adapter_name="b")
    close(their_output(model, config), wanted)
    model.delete_adapters("b")


def test_another_models_file_is_refused(run: Run):
    other = next(name for name in FAMILIES if name != run.family)
    folder = run.folder / "other"
    FAMILIES[other](folder)
    with pytest.raises(weights.WeightsError, match="holds adapters of another model than this"):
        open_pipeline(NAMES[other], folder, lora=run.model / FILE, strict=False)


def test_the_folder_of_adapters_is_no_checkpoint(run: Run):
    message = f"{run.model} holds adapters of {run.checkpoint}: name that model; a stage goes on"
    with pytest.raises(ValueError, match=message):
        locate(run.model, ["transformer"])


def test_a_second_stage_starts_from_the_adapters_of_the_first(run: Run):
    """And trains them: without a step they are those of the first, bit by bit."""
    earlier = {"first": run.result}
    _, begun = trained.train(run.folder / "none", run.config, earlier, steps=0)
    toy.assert_same_bits(trees.flatten(begun), trees.flatten(run.result))
    _, result = trained.train(run.folder / "one", run.config, earlier, steps=1)
    for path, leaf in trees.flatten(result).items():
        assert np.any(leaf != trees.flatten(run.result)[path]), path
    config = trained.config_of(run.checkpoint, lora=(trained.RULE | dict(rank=3),))
    with pytest.raises(InitError, match="from stage 'first' has shape .* the same model options"):
        trained.train(run.folder / "two", config, earlier)


def test_stopped_and_resumed_the_adapters_are_the_same(run: Run):
    trained.train(run.folder / "resumed", run.config, steps=2)
    _, result = trained.train(run.folder / "resumed", run.config)
    toy.assert_same_bits(trees.flatten(result), trees.flatten(run.result))
