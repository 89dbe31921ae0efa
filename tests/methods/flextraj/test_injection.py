"""Steering by residuals of a side network: where it starts, what it computes, how it is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import flextraj as configs
from configs.common import optimizer, train_stage
from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.program import Program
from tavid_jax.methods.flextraj.controlnet import ControlNet
from tavid_jax.methods.flextraj.injection import inject
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh
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


def evaluated(backbone, params, batch):
    state, timestep = injected.inputs(backbone, batch)
    return np.asarray(jax.jit(backbone.output)(params, state, timestep, batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_begins_as_the_published_model(family):
    """From a copy of its first blocks, in float32; whatever the condition videos show."""
    backbone = injected.plain(family, depth=3, dtype=jnp.bfloat16)
    bare = injected.plain(family, depth=3, videos=0, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(
        lambda: bare.model.init(jax.random.key(0), jnp.zeros(1), method="embed_time")["params"]
    )
    base = trees.flatten(trained.random_params(shapes, 4))
    method = injected.method(backbone, ControlNet(2), base=base)
    params = injected.begun(method)["backbone"]
    flat = trees.flatten(params)
    for path, leaf in base.items():
        if path.startswith("blocks/"):
            np.testing.assert_array_equal(flat[f"controlnet/{path}"], leaf[:2], err_msg=path)
    own = trees.flatten(params["controlnet"])
    assert {leaf.dtype.name for leaf in own.values()} == {"float32"}
    assert not any(np.any(x) for path, x in own.items() if not path.startswith("blocks/"))
    assert {flat[path].dtype.name for path in base} == {"bfloat16"}
    batch = batch_of(backbone.spec())
    published = {name: x for name, x in batch.items() if name not in CONTROLS}
    expected = evaluated(bare, {n: x for n, x in params.items() if n in shapes}, published)
    np.testing.assert_array_equal(evaluated(method.backbone, params, batch), expected)
    assert np.std(expected) > 0.1


def test_a_copy_of_what_was_initialised():
    """Without a checkpoint, as when shapes are asked for."""
    method = injected.method(injected.plain("wan"), ControlNet(1))
    base = jax.jit(method.init)(jax.random.key(2))["backbone"]
    first = jax.tree.map(lambda x: np.asarray(x[:1]), base["blocks"])
    jax.tree.map(np.testing.assert_array_equal, base["controlnet"]["blocks"], first)
    assert "fuse" in base["controlnet"] and "fuse" not in base


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

    def call(name, *args, blocks=network["blocks"]):
        one = jax.tree.leaves(blocks)[0].shape[0]
        module = model.clone(config=dataclasses.replace(model.config, num_layers=one))
        return module.apply({"params": network | {"blocks": blocks}}, *args, method=name)

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
    moved = {}
    for i, place in enumerate(places):
        block = jax.tree.map(lambda x, i=i: x[i : i + 1], side["blocks"])
        copy = call("blocks", copy, times, *rest, grid, blocks=block).streams
        behind = jax.tree.map(lambda x, i=i: x[i], side["zero_out"])
        moved[place] = copy["video"] @ behind["kernel"] + behind["bias"]
    for i in range(model.config.num_layers):
        block = jax.tree.map(lambda x, i=i: x[i : i + 1], network["blocks"])
        tokens = call("blocks", tokens, times, *rest, grid, blocks=block).streams
        tokens["video"] = tokens["video"] + moved.get(i, 0.0)
    return call("head", tokens["video"], time, grid)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_by_hand(family):
    """Two of four blocks, spread; also with what sampling computes once."""
    backbone = inject(injected.plain(family, depth=4), ControlNet(2, spread=True))
    method = injected.method(injected.plain(family, depth=4), ControlNet(2, spread=True))
    params = random_params(method)["backbone"]
    batch = batch_of(backbone.spec())
    expected = np.asarray(jax.jit(lambda *x: by_hand(backbone, *x, (0, 2)))(params, batch))
    found = evaluated(backbone, params, batch)
    tolerance = 1e-5 * np.std(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance)
    kept = evaluated(backbone, params, jax.jit(backbone.precompute)(params, batch))
    np.testing.assert_allclose(kept, found, rtol=1e-5, atol=tolerance)
    without = evaluated(backbone, params, {n: x for n, x in batch.items() if n not in CONTROLS})
    assert np.std(without - found) > 0.05 * np.std(found)


def test_where_residuals_go():
    assert ControlNet(2).layers(5) == (0, 1)
    assert ControlNet(3, spread=True).layers(6) == (0, 2, 4)
    assert ControlNet(3, spread=True).layers(5) == (0, 1, 3)
    assert ControlNet(4, spread=True).layers(4) == (0, 1, 2, 3)


@pytest.mark.parametrize(("family", "name"), [("wan", "adamw"), ("cogvideox", "muon")])
def test_it_alone_is_trained(family, name):
    """All of it, after the first steps: what lies behind a zero has no gradient yet."""
    method = injected.method(injected.plain(family), ControlNet(1))
    options = optimizer(name=name, lr=1e-2, schedule="constant", warmup=0)
    stage = train_stage("flextraj", steps=6, optimizer=options, batch_size=2, cached_by=("train",))
    program = Program(method, stage, make_mesh(devices=jax.devices()[:1]))
    params = random_params(method)
    for node in ("fuse", "zero_in", "zero_out"):
        zero = jax.tree.map(jnp.zeros_like, params["backbone"]["controlnet"][node])
        params["backbone"]["controlnet"][node] = zero
    trainable, frozen = split_trainable(method, params)
    assert list(trainable["backbone"]) == ["controlnet"] and "controlnet" not in frozen["backbone"]
    state, begun = program.build(trainable, jax.random.key(5)), trees.flatten(trainable)
    step, batch = jax.jit(program.step()), batch_of(method.encoded_spec())
    moved = [set()]
    for _ in range(4):
        state, _ = step(state, frozen, batch)
        now = trees.flatten(state.trainable)
        moved.append({p for p, x in now.items() if np.any(x != begun[p])})
    node = "backbone/controlnet"
    # AdamW's decay moves what has no gradient.
    if name == "muon":
        assert moved[1] == {f"{node}/zero_out/kernel", f"{node}/zero_out/bias"}
    assert moved[-1] == set(begun)


def test_every_draw_has_a_condition_of_its_own():
    """The condition stream serves several noisy videos, a side network sees each."""
    method = injected.method(injected.plain("cogvideox"), ControlNet(1), draws=3)
    batch = batch_of(method.encoded_spec())
    many, drawn = method.drawings(batch, keys())
    assert len(drawn) == 6 and {len(x) for x in many.values()} == {6}
    np.testing.assert_array_equal(many[CONTROL][:3], np.stack([batch[CONTROL][0]] * 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_by_the_pipeline(family):
    """Untrained it is the published model; trained it follows tracks, and else is that model."""
    pipeline = trained.in_memory(family)
    part = pipeline.parts["transformer"]
    config = dataclasses.replace(part.config, condition_videos=2)
    method = injected.method(injected.plain(family), ControlNet(1), base=part.opened.leaves)
    params = injected.begun(method)["backbone"]["controlnet"]

    def opened(params):
        module, added = part.module.clone(config=config), {"controlnet": params}
        parts = {"transformer": dataclasses.replace(part, module=module, added=added)}
        return dataclasses.replace(
            pipeline, parts=pipeline.parts | parts, inject=lambda b: inject(b, ControlNet(1))
        )

    points = np.random.default_rng(0).uniform(0, 16, (9, 1, 2)) + np.zeros((9, 9, 2))
    tracks = Trajectories(points, np.ones((9, 9), bool), (16, 16))
    bare = trained.sample(pipeline, steps=2)
    model = opened(params)
    np.testing.assert_allclose(
        trained.sample(model, steps=2, tracks=tracks), bare, rtol=1e-5, atol=1e-6
    )
    model.parts["transformer"].added = {"controlnet": injected.stirred(params)}
    followed = trained.sample(model, steps=2, tracks=tracks)
    assert np.std(followed - bare) > 0.05 * np.std(bare)
    np.testing.assert_allclose(trained.sample(model, steps=2), bare, rtol=1e-5, atol=1e-6)


# ---- from a config --------------------------------------------------------------------------


def config(lora=(), **control):
    made = configs.get_config("trial")
    fields = dict(injection="residuals", blocks=2) | control
    for stage in made.order:
        made.stages[stage].options = dict(control=fields, model=dict(lora=lora))
    return made


def test_a_stage_of_a_config():
    system = make_system(config(spread=True))
    method = system.method("s1")
    assert method.backbone.controlnet == ControlNet(2, spread=True)
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    trained_shapes = trees.flatten(split_trainable(method, shapes)[0])
    assert {path.split("/")[1] for path in trained_shapes} == {"controlnet"}
    found = {p: leaf for p, leaf in method.pretrained().items() if "/controlnet/" in p}
    for path, leaf in found.items():
        assert leaf.shape == leaf.read().shape == trained_shapes[path].shape
    assert len(found) == sum("/controlnet/blocks/" in path for path in trained_shapes)
    with pytest.raises(ValueError, match="stages.s4 has control.injection 'residuals'"):
        system.export(None, "nowhere")


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
        make_system(config(**changes)).method("s1")
    with pytest.raises(ValueError, match="set model.changes.condition_videos"):
        inject(injected.plain("wan", videos=0), ControlNet(1))
