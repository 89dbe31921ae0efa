"""Steering by residuals of a side network: where it starts, what it computes, how it is trained."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import flextraj as configs
from tavid_jax.engine import trees
from tavid_jax.engine.method import Results
from tavid_jax.engine.muon import muon_groups
from tavid_jax.engine.placement import split_trainable
from tavid_jax.methods.flextraj.controlnet import ControlNet, with_controlnet
from tavid_jax.methods.flextraj.injection import inject
from tavid_jax.methods.registry import make_system
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE
from tavid_jax.tracks.trajectories import Trajectories
from tests.methods.finetune.tiny import batch_of, random_params
from tests.methods.flextraj import injected
from tests.pipelines import trained

FAMILIES = ("wan", "cogvideox")
CONTROLS = (CONTROL, CONTROL_IMAGE)


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def keys(size=2):
    return jax.random.split(jax.random.key(3), size)


def test_begins_as_a_copy_of_published_blocks():
    """In float32, read from the checkpoint; the rest is zero, and shapes can be asked for."""
    backbone = injected.plain("wan", depth=3, dtype=jnp.bfloat16)
    bare = injected.plain("wan", depth=3, videos=0)
    shapes = jax.eval_shape(
        lambda: bare.model.init(jax.random.key(0), jnp.zeros(1), method="embed_time")["params"]
    )
    base = trees.flatten(trained.random_params(shapes, 4))
    flat = trees.flatten(injected.begun(injected.method(backbone, ControlNet(2), base=base)))
    flat = {path.removeprefix("backbone/"): np.asarray(leaf) for path, leaf in flat.items()}
    blocks = {path for path in base if path.startswith("blocks/")}
    for path in blocks:
        np.testing.assert_array_equal(flat[f"controlnet/{path}"], base[path][:2], err_msg=path)
    own = {path: leaf for path, leaf in flat.items() if path.startswith("controlnet/")}
    assert {leaf.dtype.name for leaf in own.values()} == {"float32"}
    added = set(own) - {f"controlnet/{path}" for path in blocks}
    assert {path.split("/")[1] for path in added} == {"fuse", "zero_in", "zero_out"}
    assert not any(np.any(own[path]) for path in added)
    assert set(flat) == set(base) | set(own)  # the fusion is the side network's
    assert {flat[path].dtype.name for path in base} == {"bfloat16"}


def test_a_copy_of_what_was_initialised():
    """Without a checkpoint."""
    base = trained.parts_of("wan")["transformer"].params
    made = with_controlnet(base, 1)["controlnet"]
    first = jax.tree.map(lambda x: x[:1], base["blocks"])
    jax.tree.map(np.testing.assert_array_equal, made["blocks"], first)


def by_hand(backbone, params, batch, places):
    """Block after block of either network, in plain sums; Wan's first frame is at timestep 0."""
    model, (state, timestep) = backbone.model, injected.inputs(backbone, batch)
    side = params["controlnet"]
    network = {name: x for name, x in params.items() if name != "controlnet"}
    network["fuse"] = side["fuse"]  # so that there is one; not used below
    frames = state.shape[1]
    if "image" in batch:

        def beside(image):
            return jnp.stack([image] + [jnp.zeros_like(image)] * (frames - 1), axis=1)

        state = jnp.concatenate([state, beside(batch["image"])], axis=-1)
        first = [beside(batch["control_image"][:, i]) for i in range(2)]
    else:
        timestep = jnp.stack([0 * timestep] + [timestep] * (frames - 1), axis=1)
        first = [batch["control"][:, i, ..., :0] for i in range(2)]

    module = model.clone(config=dataclasses.replace(model.config, num_layers=1))

    first_block = jax.tree.map(lambda x: x[:1], network["blocks"])

    def call(name, *args, stack=first_block):
        return module.apply({"params": network | {"blocks": stack}}, *args, method=name)

    ids, colours = (
        call("embed_video", jnp.concatenate([batch["control"][:, i], first[i]], axis=-1))
        for i in range(2)
    )
    condition = ids + colours @ side["fuse"]["kernel"] + side["fuse"]["bias"]
    grid = model.config.grid(state.shape[1:4])
    time, video = call("embed_time", timestep), call("embed_video", state)
    if "image" in batch:
        tokens, rest = {"text": call("embed_text", batch["text"], grid)}, ()
        times = {"text": time, "video": time}
    else:
        tokens, rest = {}, ({"text": call("embed_text", batch["text"])},)
        times = {"video": time}
    extra = condition @ side["zero_in"]["kernel"] + side["zero_in"]["bias"]
    copy, tokens = tokens | {"video": video + extra}, tokens | {"video": video}

    def block(stack, tokens):
        one = jax.tree.map(lambda x: x[None], stack)
        return call("blocks", tokens, times, *rest, grid, stack=one).streams

    def copied(tokens, layer):
        tokens = block(layer["blocks"], tokens)
        behind = layer["zero_out"]
        return tokens, tokens["video"] @ behind["kernel"] + behind["bias"]

    def moved(tokens, layer):
        tokens = block(layer["blocks"], tokens)
        return tokens | {"video": tokens["video"] + layer["moved"]}, None

    layers = {name: side[name] for name in ("blocks", "zero_out")}
    _, values = jax.lax.scan(copied, copy, layers)
    none = jnp.zeros((model.config.num_layers, *video.shape))
    steps = none.at[jnp.array(places)].set(values)
    layers = {"blocks": network["blocks"], "moved": steps}
    tokens, _ = jax.lax.scan(moved, tokens, layers)
    return call("head", tokens["video"], time, grid)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_by_hand(family):
    """Two of four blocks, spread; and the published model before it was trained."""
    backbone = inject(injected.plain(family, depth=4), ControlNet(2, spread=True))
    method = injected.method(injected.plain(family, depth=4), ControlNet(2, spread=True))
    params = random_params(method)["backbone"]
    batch = batch_of(backbone.spec())
    state, timestep = injected.inputs(backbone, batch)

    output = jax.jit(lambda *x: backbone.output(x[0], state, timestep, x[1]))
    hand = jax.jit(lambda *x: by_hand(backbone, *x, (0, 2)))
    found, expected = output(params, batch), np.asarray(hand(params, batch))
    close = dict(rtol=1e-5, atol=1e-5 * np.std(expected))
    np.testing.assert_allclose(found, expected, **close)
    zero = jax.tree.map(jnp.zeros_like, params["controlnet"]["zero_out"])
    begun = params | {"controlnet": params["controlnet"] | {"zero_out": zero}}
    published = output(params, {n: x for n, x in batch.items() if n not in CONTROLS})
    np.testing.assert_array_equal(output(begun, batch), published)
    np.testing.assert_allclose(published, hand(begun, batch), **close)
    assert np.std(published - found) > 0.05 * np.std(found)
    if family == "wan":  # where sampling keeps something: keys and values of the text
        kept = jax.jit(backbone.precompute)(params, batch)
        assert "text" not in kept
        np.testing.assert_allclose(output(params, kept), expected, **close)


def test_where_residuals_go():
    assert ControlNet(2).layers(5) == (0, 1)
    assert ControlNet(3, spread=True).layers(6) == (0, 2, 4)
    assert ControlNet(3, spread=True).layers(5) == (0, 1, 3)
    assert ControlNet(4, spread=True).layers(4) == (0, 1, 2, 3)


def test_it_alone_is_trained():
    """All of it, once its ends have moved: what lies behind a zero has no gradient."""
    method = injected.method(injected.plain("cogvideox", depth=1), ControlNet(1))
    params, batch = random_params(method), batch_of(method.encoded_spec())
    trainable, frozen = split_trainable(method, params)
    assert list(trainable["backbone"]) == ["controlnet"] and "controlnet" not in frozen["backbone"]

    @jax.jit
    def gradient(own):
        def loss(own):
            merged = trees.merge(frozen, {"backbone": {"controlnet": own}})
            return method.loss(merged, batch, keys(), jnp.int32(0))[0][0]

        return jax.grad(loss)(own)

    def reached(own):
        found = trees.flatten(jax.device_get(gradient(own)))
        return {path for path, x in found.items() if np.any(x)}

    own = trainable["backbone"]["controlnet"]
    everything = set(trees.flatten(own))
    # A bias of keys is no constant here: the norm of keys follows.
    assert reached(own) == everything
    ends = {n: jax.tree.map(np.zeros_like, own[n]) for n in ("fuse", "zero_in", "zero_out")}
    assert reached(own | ends) == {"zero_out/kernel", "zero_out/bias"}
    groups = trees.flatten(muon_groups(own))
    matrices = {path for path, x in trees.flatten(own).items() if path.endswith("/kernel")}
    assert {path for path, group in groups.items() if group == "muon"} == matrices


def test_every_draw_has_a_condition_of_its_own():
    """The condition stream serves several noisy videos, a side network sees each."""
    method = injected.method(injected.plain("cogvideox"), ControlNet(1), draws=3)
    batch = batch_of(method.encoded_spec())
    many, drawn = method.drawings(batch, keys())
    assert len(drawn) == 6 and {len(x) for x in many.values()} == {6}
    np.testing.assert_array_equal(many[CONTROL][:3], np.stack([batch[CONTROL][0]] * 3))


def test_sampled_by_the_pipeline():
    """Untrained it sees no tracks; trained, it follows them."""
    pipeline = trained.in_memory("cogvideox")
    part = pipeline.parts["transformer"]
    config = dataclasses.replace(part.config, condition_videos=2)
    method = injected.method(injected.plain("cogvideox"), ControlNet(1), base=part.opened.leaves)
    untrained = injected.begun(method)["backbone"]["controlnet"]
    opened = dataclasses.replace(
        pipeline, parts=dict(pipeline.parts), inject=lambda b: inject(b, ControlNet(1))
    )
    points = np.random.default_rng(0).uniform(0, 12, (9, 1, 2)) + np.zeros((9, 9, 2))
    here, there = (Trajectories(p, np.ones((9, 9), bool), (16, 16)) for p in (points, points + 3))

    def sample(params, tracks):
        module = part.module.clone(config=config)
        added = dataclasses.replace(part, module=module, added={"controlnet": params})
        opened.parts["transformer"] = added
        return trained.sample(opened, steps=2, tracks=tracks)

    np.testing.assert_array_equal(sample(untrained, here), sample(untrained, there))
    moved = injected.stirred(untrained)
    found = sample(moved, here)
    assert np.std(sample(moved, there) - found) > 0.02 * np.std(found)


# ---- from a config --------------------------------------------------------------------------


def config(lora=(), **control):
    made = configs.get_config("demo")
    fields = dict(injection="residuals", blocks=2) | control
    for stage in made.order:
        made.stages[stage].options = dict(control=fields, model=dict(lora=lora))
    return made


def test_a_stage_of_a_config():
    system = make_system(config(spread=True))
    method = system.method("dense")
    assert method.backbone.controlnet == ControlNet(2, spread=True)
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    trained_shapes = trees.flatten(split_trainable(method, shapes)[0])
    assert {path.split("/")[1] for path in trained_shapes} == {"controlnet"}
    found = {p: leaf for p, leaf in method.pretrained().items() if "/controlnet/" in p}
    for path, leaf in found.items():
        assert leaf.shape == leaf.read().shape == trained_shapes[path].shape
    assert len(found) == sum("/controlnet/blocks/" in path for path in trained_shapes)
    with pytest.raises(ValueError, match="stages.unaligned has control.injection 'residuals'"):
        system.export(Results(dict, {}, {}, {}), Path("nowhere"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(injection="concat"), "control.injection 'concat' is none of stream, residuals"),
        (dict(blocks=0), "control.blocks 0 must be at least 1"),
        (dict(blocks=99), r"control.blocks 99: the backbone has \d+ to copy"),
        (dict(lora=(dict(path="blocks/attn/q", rank=2),)), r"set model.lora to \(\)"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_system(config(**changes)).method("dense")
    with pytest.raises(ValueError, match="set model.changes.condition_videos"):
        inject(injected.plain("wan", videos=0), ControlNet(1))
