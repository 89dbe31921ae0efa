"""TrajLoom as a whole: methods of stages, variants, and the ablations' tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import trees
from tavid_jax.engine.method import Results
from tavid_jax.engine.report import Report
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.trajloom.flow import FlowMethod
from tavid_jax.methods.trajloom.latents import LatentsMethod
from tavid_jax.methods.trajloom.settings import read_settings
from tavid_jax.methods.trajloom.vae import VAEMethod
from tavid_jax.methods.trajloom.visibility import VisibilityMethod
from tests.methods.trajloom import micro


def test_every_stage_has_its_method():
    system = make_system(micro.config())
    kinds = {
        "vae": VAEMethod,
        "latents": LatentsMethod,
        "flow": FlowMethod,
        "on_policy": FlowMethod,
        "visibility": VisibilityMethod,
    }
    for stage, kind in kinds.items():
        assert type(system.method(stage)) is kind
    assert system.method("flow").learn.on_policy == 0
    assert system.method("on_policy").learn.on_policy == pytest.approx(0.1)
    assert system.method("flow").cached and system.method("visibility").cached


def test_a_stage_on_clips_encodes_them_itself():
    config = micro.config()
    config.stages.flow.update(data="train", init_from=("vae", "latents"))
    assert not make_system(config).method("flow").cached


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c.update(system="trajlom"),
            "config.system 'trajlom' is none of finetune, flextraj, tavid, tgt, trajloom",
        ),
        (lambda c: c.stages.vae.update(method="vea"), "stages.vae.method 'vea' is none of"),
        (lambda c: c.variants.update(x=("vae", "flaw@3")), "variants.x names stage 'flaw@3'"),
        (lambda c: c.update(main_variant="y"), r"main_variant 'y' is none of \['trajloom'\]"),
        (lambda c: c.sampling.update(stepps=3), "sampling.stepps is no setting; there are"),
        (lambda c: c.sampling.update(solver="x"), "sampling.solver 'x' is none of"),
        (lambda c: c.model.vae.update(hiden=3), "model.vae.hiden is no setting; there are"),
        (lambda c: c.learn.flow.rollout.update(k=3), "learn.flow.rollout.k is no setting"),
        (lambda c: c.stages.vae.options.update(lern={}), "options.lern of a stage"),
        (lambda c: c.model.vae.update(heads=3), "heads"),
        (lambda c: c.data.update(frames=18), r"data.frames 18 is not 4k\+1"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_wrong_with_a_config_is_named(change, words):
    config = micro.config()
    change(config)
    with pytest.raises(ValueError, match=words):
        system = make_system(config)
        for stage in config.order:
            system.method(stage)


def test_options_of_a_stage_change_it_alone():
    config = micro.config("ablations")
    system = make_system(config)
    assert not system.method("vae_no_offsets").model.config.use_offsets
    assert system.method("vae").model.config.use_offsets
    assert system.settings("no_fusion").flow.config.track_fusion == "none"
    assert system.settings("no_anchor").flow_losses.source == "noise"
    assert system.settings("full").flow_losses.source == "anchor_first"
    assert read_settings(config).vae_losses.velocity == pytest.approx(0.1)


@pytest.mark.parametrize("stage", ["vae", "on_policy", "visibility"])
@pytest.mark.parametrize(
    "running",
    [dict(dtype="bfloat16"), dict(remat="full"), dict(scan=False)],
    ids=lambda o: next(iter(o)),
)
def test_losses_are_float32_however_a_model_runs(stage, running):
    config = micro.config()
    config.model.update(running)
    method = make_system(config).method(stage)
    params = jax.eval_shape(method.init, jax.random.key(0))
    batch = {
        name: jax.ShapeDtypeStruct((2, *spec.shape), spec.dtype)
        for name, spec in method.encoded_spec().items()
    }
    ratio, logs = jax.eval_shape(method.loss, params, batch, micro.keys(2), jnp.int32(0))
    for leaf in jax.tree.leaves((ratio, logs)):
        assert leaf.shape == () and leaf.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


class Inputs:
    """Clips in memory."""

    def __init__(self, count: int):
        self.clips = [micro.clip(i) for i in range(count)]

    def open(self, name: str):
        assert name == "test"
        return self.clips

    def frames(self, source, index, height):
        return source[index].video


def results_of(system, config, **snapshots) -> Results:
    """Untrained stages; `snapshots` maps names like flow@225 to the stage they stand for."""
    parts = micro.untrained(system, *config.order)
    parts |= {name: parts[stage] for name, stage in snapshots.items()}

    def params(*names):
        merged = {}
        for name in names:
            merged = trees.merge(merged, parts[name])
        return merged

    curves = {"flow": [{"step": 1, "loss": 2.0, "flow": 2.0}, {"step": 2, "loss": 1.0, "flow": 1}]}
    seconds = {name: 10.0 * (i + 1) for i, name in enumerate(config.order)}
    return Results(params=params, curves=curves, seconds=seconds, provenance={"config": "abc"})


@pytest.mark.slow
def test_ablations_have_all_their_rows(tmp_path, programs):
    config = micro.small_run(tmp_path, "ablations")
    config.stages.flow.update(steps=450, snapshots=(225,))
    system = make_system(config)
    results = results_of(system, config, **{"flow@225": "flow"})
    report = Report("Ablations", "test")
    metrics = system.evaluate(results, Inputs(3), report)
    for table, labels in (
        ("vae", ["full", "absolute coordinates", "no smoothness terms"]),
        ("boundary", ["full", "no anchored source", "no fusion"]),
        (
            "on_policy",
            ["with on-policy steps", "plain steps, equal time", "without", "early checkpoint"],
        ),
    ):
        assert list(metrics[table]) == labels
        for row in metrics[table].values():
            flat = trees.flatten(row)
            assert all(np.isfinite(v) for v in flat.values() if isinstance(v, float)), flat
    row = metrics["on_policy"]
    # Same weights, same seed: no difference. The early checkpoint took half of the flow's time.
    assert row["early checkpoint"]["ade_minus_full_px"] == pytest.approx(
        row["without"]["ade_minus_full_px"]
    )
    flow = results.seconds["flow"]
    assert row["without"]["flow_seconds"] == flow
    assert row["early checkpoint"]["flow_seconds"] == flow / 2
    assert row["with on-policy steps"]["flow_seconds"] == flow + results.seconds["on_policy"]
    page = report.write(tmp_path / "report").read_text()
    for words in ("offsets and regulariser", "oundary", "n-policy", "early checkpoint"):
        assert words in page
