"""Trajectories in encoded clips: kept whole by a stage or the command, drawn by training."""

from __future__ import annotations

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.common import encode_stage
from configs.tgt import get_config
from tavid_jax.data.clip import ClipError
from tavid_jax.data.grounding.build import ground_clips
from tavid_jax.data.grounding.grounded import open_grounded
from tavid_jax.data.grounding.grounder import Grounder
from tavid_jax.data.grounding.motion import MotionRule
from tavid_jax.data.grounding.raw import SceneClips
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.data.records import RecordError
from tavid_jax.data.shards import ShardedRecords
from tavid_jax.data.synthetic import toy
from tavid_jax.engine import trees
from tavid_jax.engine.stages import run_stages
from tavid_jax.engine.workdir import Workdir
from tavid_jax.methods.finetune.method import BACKBONE, NULL_TEXT, TEXT
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.tgt.method import LOCAL, LOCAL_MASK, LOCAL_TOKENS
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.pipelines.encode import main
from tavid_jax.pipelines.keeping import KEPT, PHRASES
from tavid_jax.pipelines.located import LOCAL_LENGTH, LOCAL_TEXT, NEAR

CLIPS, MODEL = 3, ("wan2.1-t2v-1.3b", "tiny-wan")


@pytest.fixture(scope="module")
def grounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of two objects as a folder of grounded clips."""
    folder = tmp_path_factory.mktemp("grounded") / "clips"
    rule = MotionRule(0.0, 0.0, 0.0)
    ground_clips(SceneClips(toy.grounded(), CLIPS), Grounder(motion=rule), folder, codec="png")
    return folder


def small(grounded: Path, **trajectories) -> ConfigDict:
    """One training of two steps from what a stage encodes, its own text encoder beside it."""
    config = get_config("demo")
    config.train_clips = str(grounded)
    config.data.clips.masks = ""
    config.data.scenes.update(train=0, test=0)
    config.trajectories.update(source="points", **trajectories)
    config.evaluate.tables = ConfigDict()
    config.model.scan = True
    with config.unlocked():
        config.stages.encode = encode_stage(shard_size=2)
    config.stages.sparse.update(
        data="encode", cached_by=("encode",), init_from=(), steps=2, batch_size=2, snapshots=(),
        checkpoint_every=5,
    )  # fmt: skip
    config.stages.sparse.options = ConfigDict()
    config.stages.sparse.optimizer.warmup = 0
    config.order = ("encode", "sparse")
    return config


@pytest.fixture(scope="module")
def staged(grounded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workdir of a run in which half the examples have the empty text at their trajectories."""
    config = small(grounded, null="empty", local_dropout=0.5)
    workdir = tmp_path_factory.mktemp("staged") / "run"
    system, inputs = make_system(config), ConfiguredInputs(config, workdir)
    folder = Workdir(workdir, config, tuple(config.volatile))
    results = run_stages(config, system, inputs, folder, make_mesh(devices=jax.devices()[:1]))
    folder.close()
    trained = trees.flatten(results.params("sparse"))
    begun = {path: leaf.read() for path, leaf in system.method("sparse").pretrained().items()}
    assert trained and all(path.startswith(f"{BACKBONE}/laca/") for path in trained)
    assert all(np.isfinite(x).all() for x in trained.values())
    assert any(not np.array_equal(x, begun[path]) for path, x in trained.items())
    assert len(results.curves["sparse"])
    return workdir


def cache_of(workdir: Path) -> ShardedRecords:
    return ShardedRecords(workdir / "stages" / "encode" / "cache")


@pytest.mark.parametrize("stage", ["dense", "sparse"])
def test_what_is_drawn_from_a_cache_is_what_clips_give(staged, grounded, stage):
    """One cache serves dense and sparse stages of any rule: the same draws, anew for every key."""
    config = small(grounded)
    changes = dict(rule=dict(radius=2.0, per_object=stage == "sparse"))
    changes["trajectories"] = dict(points=40, least=9, most=40) if stage == "dense" else {}
    for one in config.stages.values():
        one.options = ConfigDict(changes)
    config.stages.dense.update(data="train", cached_by=())
    system = make_system(config)
    raw, cached = system.reading_clips(), system.method("sparse")
    assert raw.words is not None and cached.words is None
    clips = open_grounded(grounded, size_hw=(toy.SIZE, toy.SIZE), num_frames=toy.NUM_FRAMES)
    leaves = {path: jnp.asarray(leaf.read(), jnp.float32)
              for path, leaf in raw.pretrained().items() if path.startswith(TEXT)}  # fmt: skip
    text = trees.unflatten(leaves)[TEXT]
    features = jax.jit(lambda ids, mask: raw.phrases.features(text, ids, mask))
    seen = set()
    for i, seed in itertools.product(range(CLIPS), range(2)):
        want = raw.prepare(clips[i], np.random.default_rng(seed))
        got = cached.recall(cache_of(staged)[i], np.random.default_rng(seed))
        assert got["id"] == want["id"] and set(got) == {"id", *cached.encoded_spec()}
        for name, spec in cached.encoded_spec().items():
            assert (got[name].shape, got[name].dtype) == (spec.shape, spec.dtype), name
        for name in NEAR:
            np.testing.assert_array_equal(got[name], want[name])
        used = got[LOCAL_LENGTH] > 0
        least, most = (9, 40) if stage == "dense" else (1, 5)
        assert least <= used.sum() <= most and used[: used.sum()].all()
        np.testing.assert_array_equal(got[LOCAL_LENGTH][used], want[LOCAL_LENGTH][used])
        read = np.asarray(features(want[LOCAL_TOKENS], want[LOCAL_MASK]))
        found = got[LOCAL_TEXT].astype(np.float32)
        np.testing.assert_allclose(found[used, :-1], read[used], rtol=2**-7, atol=1e-4)
        assert not found[~used].any() and not found[:, -1].any()
        seen.add(got["near_token"].tobytes() + got["near_owner"].tobytes())
    assert len(seen) == 2 * CLIPS


def test_the_command_keeps_the_same(staged, grounded, tmp_path):
    out = tmp_path / "cache"
    how = ["--trajectories", "--text-positions", "8", "--fps", "0", "--shard-size", "2"]
    assert main([*MODEL, str(grounded), str(out), *how]) == 0
    method = make_system(small(grounded)).method("encode")
    made, own = ShardedRecords(out, expect=method.requirements()), cache_of(staged)
    assert [clip["id"] for clip in made.clips] == [clip["id"] for clip in own.clips]
    for i in range(CLIPS):
        one, other = made[i], own[i]
        assert set(one) == set(other) == {"id", "video", "text", *KEPT}
        for name in set(one) - {"id"}:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        texts = made.clips[i]["texts"]
        assert len(one[PHRASES]) == len(set(texts)) == 2


def test_a_cache_that_keeps_something_else_is_refused(staged, grounded):
    config = small(grounded, text_positions=9)
    config.cache, config.checkpoint = str(staged / "stages" / "encode" / "cache"), ""
    method = make_system(config).method("encode")
    message = "trajectories.text_positions: 8 there, 9 wanted"
    with pytest.raises(RecordError, match=message):
        ShardedRecords(config.cache, expect=method.requirements())
    plain = dict(method.requirements(), trajectories=None)
    with pytest.raises(RecordError, match="source: 'points' there|trajectories"):
        ShardedRecords(config.cache, expect=plain)
    config = small(grounded)
    config.stages.sparse.options = ConfigDict(dict(trajectories=dict(source="objects")))
    with pytest.raises(ValueError, match="'objects' of a stage that reads the examples of 'enc"):
        make_system(config).method("sparse")


@pytest.mark.parametrize("null", ["drop", "empty"])
def test_what_is_dropped_of_cached_examples(staged, grounded, null):
    config = small(grounded, null=null, local_dropout=1.0)
    config.learn.text_dropout = 0.0
    method, source = make_system(config).method("sparse"), cache_of(staged)
    examples = [method.recall(source[i], np.random.default_rng(i)) for i in range(2)]
    batch = {name: jnp.stack([jnp.asarray(one[name]) for one in examples])
             for name in method.encoded_spec()}  # fmt: skip
    got = method.conditions(
        {NULL_TEXT: jnp.asarray(source.null_text)}, batch, jax.random.split(jax.random.key(0), 2)
    )
    places, words = ("near_token", "near_owner"), (LOCAL_TEXT, LOCAL_LENGTH)
    for name in set(LOCAL) - {"near_gauss", "near_share"}:
        changes = name in (places if null == "drop" else words)
        assert np.array_equal(got[name], batch[name]) != changes, name
    if null == "empty":
        assert (got[LOCAL_LENGTH] == 1).all()
        want = source.null_text[:8]
        np.testing.assert_array_equal(got[LOCAL_TEXT][1, 2], want)
        assert np.any(np.asarray(want[0], np.float32)) and not np.any(np.asarray(want[1:]))
    else:
        assert (got["near_token"] == method.backbone.tokens).all()


def test_the_empty_text_from_clips(grounded):
    """The same as of a cache, by the text encoder in the step."""
    config = small(grounded, null="empty")
    method = make_system(config).reading_clips()
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    spec = method.backbone.spec()
    batch = {name: jax.ShapeDtypeStruct((2, *spec[name].shape), spec[name].dtype) for name in LOCAL}
    made = jax.eval_shape(method._null, shapes, batch)
    assert {n: (x.shape, x.dtype) for n, x in made.items()} == {
        n: (x.shape, x.dtype) for n, x in batch.items()
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--text-positions", "8"], "--text-positions is of trajectories' texts"),
        (["--trajectories", "--captions", "a.csv"], "--captions is for videos"),
        (["--trajectories", "--text-positions", "1"], "text_positions 1: a text has at least 2"),
        (["--trajectories", "--frames", "13"], "no clip of 13 frames"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(grounded, tmp_path, capsys, more, message):
    out = tmp_path / "cache"
    assert main([*MODEL, str(grounded), str(out), *more]) == 1
    assert message in capsys.readouterr().err and not out.exists()


def test_videos_have_to_be_grounded_first(tmp_path, capsys):
    assert main([*MODEL, str(tmp_path), str(tmp_path / "cache"), "--trajectories"]) == 1
    assert "make some of them by python -m tavid_jax.data ground" in capsys.readouterr().err


def test_clips_without_words_are_told(grounded):
    clip = open_grounded(grounded, size_hw=(24, 24), num_frames=9)[0].replace(local_captions=())
    method = make_system(small(grounded)).method("encode")
    with pytest.raises(ClipError, match="has no local captions, one for each object"):
        list(method.examples([clip.caption], iter([clip])))
