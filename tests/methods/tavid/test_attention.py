"""The loss on attention equals that of whole maps, in value and gradient; the published golden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.methods.tavid.attention import AttentionLoss, Blocks, compare, overlap, seen_ratios
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.attention import Part, Query
from tavid_jax.models.layers.ports import Ports
from tavid_jax.models.layers.probe import Seen, observe

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax import weights  # noqa: E402
from tests.models import random_weights  # noqa: E402
from tests.models.cogvideox import dense, tiny  # noqa: E402
from tests.models.cogvideox import test_attention_golden as published  # noqa: E402

VALUE = 1e-5
# Through a whole model in float32, beside one in float64.
GRADIENT = 2e-4
STEP = jnp.int32(0)


# ---- the whole recipe on the golden file ----------------------------------------------------


@pytest.mark.parity
def test_total_loss_and_gradients_of_the_golden_model(goldens):
    """Blocks 1 and 2, lambda 0.1, as a training step puts the two losses together."""
    golden = goldens("tavid_attention_tiny")
    config, given = published.CONFIG, published.part(golden, "in/model/")
    params = weights.port("cogvideox", published.part(golden, "sd/model/"), config)
    latents, target = (
        jnp.asarray(np.moveaxis(given[name], 2, -1)) for name in ("hidden_states", "v_target")
    )
    text, time = (
        jnp.asarray(given["encoder_hidden_states"]),
        jnp.asarray(given["timestep"], "int32"),
    )
    adapters = published.adapters_of(published.part(golden, "sd_lora/model/"))
    trained = {
        "lora": {"default": {"blocks": {"attn": adapters}}},
        "patch_embed": params["patch_embed"],
    }
    attention = AttentionLoss(weight=0.1, blocks=Blocks(chosen=(1, 2)))
    aim = jnp.asarray(given["mask"])[:, None]
    columns = jnp.zeros((len(aim), 1, text.shape[1])).at[:, 0, 2].set(1.0)

    @jax.jit
    def run(trained):
        def loss(trained):
            probe = attention.probe(config.num_layers, columns, aim, STEP)
            found = published.MODEL.apply(
                {"params": {**params, **trained}}, latents, time, text,
                ports=Ports(probe=probe), method="predict",
            )  # fmt: skip
            led = found.probe["loss"].mean()
            return jnp.mean((found.sample - target) ** 2) + attention.weight * led, led

        return jax.value_and_grad(loss, has_aux=True)(trained)

    (total, led), grads = run(trained)
    want = published.part(golden, "out/model/")
    assert random_weights.relative_error(led, want["loss_attn"]) < VALUE
    assert random_weights.relative_error(total, want["loss_total"]) < VALUE
    published.same_gradients(grads, published.part(golden, "out/model/grad_total/"))


# ---- whole maps -----------------------------------------------------------------------------

CONFIG, SIZE = tiny.config_of(num_layers=3), (3, 4, 6)
TEXT, FRAME = CONFIG.text_length, 6
WEIGHTED = {0: 0.5, 2: 0.5}
RNG = np.random.default_rng(11)
LATENTS, WORDS, _ = tiny.inputs(CONFIG, SIZE, 4)
TIME = np.array([999, 37])
# Two targets: one of two pieces, and one that is mentioned twice.
COLUMNS = np.zeros((2, 2, TEXT), np.float32)
COLUMNS[:, 0, 1:3], COLUMNS[:, 1, [0, 4]] = 1.0, 0.5
AIM = RNG.random((2, 2, FRAME)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    return tiny.params_of(CogVideoX(CONFIG), 3)


def map_of(probabilities, direction, norm):
    """(B, 2, FRAME), the mean over heads, from (B, K, S, S)."""
    columns = torch.from_numpy(COLUMNS).double()
    video = slice(TEXT, TEXT + FRAME)
    if direction == "video_to_text":
        rows = probabilities[:, :, video, :TEXT]
        rows = rows / rows.sum(-1, keepdim=True) if norm == "text" else rows
        return torch.einsum("bknl,bml->bmn", rows, columns) / rows.shape[1]
    rows = probabilities[:, :, :TEXT, video]
    return torch.einsum("bkln,bml->bmn", rows, columns) / rows.shape[1]


WAYS = [
    ("video_to_text", "none"), ("video_to_text", "text"), ("text_to_video", "none"),
    ("both", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("direction", "norm"), WAYS)
def test_equals_the_loss_of_dense_attention(direction, norm):
    """Of one block, from its queries and keys: value and gradient, within rounding."""
    attention = AttentionLoss(direction=direction, norm=norm, blocks=Blocks(chosen=(0,)))
    tokens = {"text": TEXT, "video": 3 * FRAME}
    draw = lambda n: jnp.asarray(RNG.standard_normal((2, n, 3, 8)), jnp.float32)  # noqa: E731
    q, k = ({name: draw(n) for name, n in tokens.items()} for _ in range(2))
    probe = attention.probe(1, jnp.asarray(COLUMNS), jnp.asarray(AIM), STEP)

    @jax.jit
    def ours(q, k):
        seen = Seen(
            queries={name: Query(x) for name, x in q.items()},
            parts={name: Part(x, x) for name, x in k.items()},
        )
        return observe(probe, seen)["loss"].sum()

    @jax.jit
    def whole(q, k):
        asking, answering = (jnp.concatenate([x["text"], x["video"]], 1) for x in (q, k))
        logits = jnp.einsum("bqkd,bskd->bkqs", asking, answering) / np.sqrt(8)
        p = jax.nn.softmax(logits, -1)
        rows = slice(TEXT, TEXT + FRAME)
        among = jax.nn.softmax(logits[..., :TEXT], -1) if norm == "text" else p
        to_text = among[:, :, rows, :TEXT]
        maps = {
            "video_to_text": jnp.einsum("bknl,bml->bmn", to_text, COLUMNS) / 3,
            "text_to_video": jnp.einsum("bkln,bml->bmn", p[:, :, :TEXT, rows], COLUMNS) / 3,
        }
        taken = maps.values() if direction == "both" else [maps[direction]]
        return sum(jnp.square(a - AIM).mean(-1).sum() for a in taken) / len(taken)

    got = jax.value_and_grad(ours, (0, 1))(q, k)
    want = jax.value_and_grad(whole, (0, 1))(q, k)
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if np.any(theirs):
            assert random_weights.relative_error(mine, theirs) <= VALUE
        else:  # of who is not asked
            assert not np.any(mine)


@pytest.mark.parametrize(("direction", "norm"), [WAYS[1], WAYS[3]])
def test_equals_the_loss_of_whole_maps(params, direction, norm):
    attention = AttentionLoss(direction=direction, norm=norm, blocks=Blocks(chosen=tuple(WEIGHTED)))

    @jax.jit
    def ours(params):
        def loss(params):
            probe = attention.probe(CONFIG.num_layers, jnp.asarray(COLUMNS), jnp.asarray(AIM), STEP)
            found = CogVideoX(CONFIG, remat="full").apply(
                {"params": params}, *map(jnp.asarray, (LATENTS, TIME, WORDS)),
                ports=Ports(probe=probe), method="predict",
            )  # fmt: skip
            return found.probe["loss"].sum(), found.probe

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, seen), grads = ours(params)
    x = dense.tensors(params)
    inputs = (torch.from_numpy(one).double() for one in (LATENTS, WORDS))
    latents, words = inputs
    _, probabilities, _ = dense.Dense(CONFIG, x)(latents, TIME, words)
    ways = ("video_to_text", "text_to_video") if direction == "both" else (direction,)
    aim, want, inside = torch.from_numpy(AIM).double(), 0.0, 0.0
    for layer, share in WEIGHTED.items():
        for way in ways:
            found = map_of(probabilities[layer], way, norm)
            want = want + share / len(ways) * (found - aim).square().mean(-1).sum(-1)
            mean = ((found * aim).sum(-1) / aim.sum(-1)).mean(-1)
            inside = inside + share / len(ways) * mean
    want.sum().backward()
    assert random_weights.relative_error(seen["loss"], want.detach().numpy()) <= VALUE
    assert random_weights.relative_error(seen["inside"], inside.detach().numpy()) <= VALUE
    flat = {path: np.asarray(leaf) for path, leaf in weights.table.walk(grads)}
    errors = random_weights.gradient_errors(flat, dense.gradients(x))
    assert max(errors.values()) <= GRADIENT, random_weights.worst(errors)


def test_a_map_that_is_its_mask(params):
    """Gives no loss; otherwise a step against the gradient raises the logits of the trigger within
    the mask and lowers them outside."""
    logits = jnp.asarray(RNG.standard_normal((1, FRAME, 9)), jnp.float32)
    mask = jnp.asarray([[0.0, 1.0, 1.0, 0.0, 0.0, 1.0]])

    def loss(logits, aim):
        a = jax.nn.softmax(logits, -1)[..., 2]
        return compare(a[:, None], aim[:, None])["loss"].sum()

    own = jax.nn.softmax(logits, -1)[..., 2]
    value, grads = jax.value_and_grad(loss)(logits, own)
    assert value == 0.0 and not jnp.any(grads)
    pulled = -jax.grad(loss)(logits, mask)[0, :, 2]
    assert np.all((np.asarray(pulled) > 0) == np.asarray(mask[0] > 0))


# ---- what else is told ----------------------------------------------------------------------


def test_numbers_about_a_map():
    maps = jnp.asarray([[[0.4, 0.1, 0.2, 0.3], [0.0, 0.0, 0.5, 0.5]]])
    aim = jnp.asarray([[[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]])
    seen = compare(maps, aim)
    np.testing.assert_allclose(seen["loss"], [0.9 / 4 + 1.5 / 4], rtol=1e-6)
    np.testing.assert_allclose(seen["inside"], [(0.35 + 0.0) / 2], rtol=1e-6)
    np.testing.assert_allclose(seen["outside"], [(0.15 + 1 / 3) / 2], rtol=1e-6)
    np.testing.assert_allclose(seen["iou"], [0.5], rtol=1e-6)
    np.testing.assert_allclose(compare(maps, aim, 2)["loss"], seen["loss"] / 2)
    total = lambda m: sum(compare(m, aim)[k].sum() for k in ("inside", "outside", "iou"))  # noqa: E731
    assert not np.any(jax.grad(total)(maps))
    ratios = seen_ratios(seen)
    assert set(ratios) == {
        "attention", "attention_inside", "attention_outside", "attention_iou"
    }  # fmt: skip
    assert ratios["attention"][1] == 1.0


def test_overlap():
    """As many of the highest tokens as the mask has."""
    aim = jnp.asarray([1.0, 0.6, 0.4, 0.0, 0.0, 0.0])
    for maps, want in (
        ([9, 8, 0, 0, 0, 1], 1.0),
        ([9, 0, 8, 0, 0, 1], 1 / 3),
        ([0, 0, 0, 5, 4, 1], 0.0),
    ):
        np.testing.assert_allclose(overlap(jnp.asarray(maps, jnp.float32), aim), want)
    faint = jnp.asarray([0.0, 0.2, 0.1])
    assert overlap(jnp.asarray([0.0, 1.0, 0.0]), faint) == 1.0


# ---- which blocks ---------------------------------------------------------------------------


def chosen(blocks, depth=42, seed=0, step=0):
    weights = np.asarray(blocks.weights(depth, seed, jnp.int32(step)))
    assert weights.shape == (depth,) and weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-6)
    taken = np.flatnonzero(weights)
    np.testing.assert_allclose(weights[taken], 1 / len(taken), rtol=1e-6)
    assert len(taken) == blocks.most
    return tuple(taken)


def test_the_blocks_of_the_paper():
    assert chosen(Blocks()) == (5, 8, 11, 14, 17, 20, 23)
    assert chosen(Blocks(mode="uniform")) == (0, 6, 12, 18, 24, 30, 36)
    assert chosen(Blocks(mode="uniform", count=4), depth=4) == (0, 1, 2, 3)


@pytest.mark.parametrize(("mode", "first", "last"), [("sample", 5, 23), ("random", 0, 41)])
def test_drawn_blocks(mode, first, last):
    """Without replacement, within the range, a function of seed and step."""
    blocks = Blocks(mode=mode)
    steps = [chosen(blocks, step=step) for step in range(40)]
    assert all(len(taken) == 7 for taken in steps)
    seen = {block for taken in steps for block in taken}
    assert (min(seen), max(seen)) == (first, last) and len(seen) == last - first + 1
    assert len(set(steps)) > 30
    assert steps[:5] == [chosen(blocks, step=step) for step in range(5)]
    assert steps[:5] != [chosen(blocks, seed=1, step=step) for step in range(5)]
    # Drawn anew under jit, without compiling again.
    traced = jax.jit(lambda step: blocks.weights(42, 0, step))
    for step in (0, 7):
        np.testing.assert_array_equal(np.flatnonzero(traced(jnp.int32(step))), steps[step])
    assert traced._cache_size() == 1


@pytest.mark.parametrize(
    ("fields", "depth", "message"),
    [
        (dict(chosen=(5, 42)), 42, r"chosen \(5, 42\): block 42 does not exist; the model has 42"),
        (dict(chosen=()), 42, r"chosen \(\): name each block once"),
        (dict(chosen=(1, 1)), 42, r"chosen \(1, 1\): name each block once"),
        (dict(mode="sample", last=42), 42, "first 5, last 42: the model has 42 blocks, 0 to 41"),
        (dict(mode="sample", first=9, last=5), 42, "first 9, last 5"),
        (dict(mode="sample", count=20), 42, "count 20: there are 19 blocks to take"),
        (dict(mode="random", count=43), 42, "count 43: there are 42 blocks"),
        (dict(mode="uniform", count=0), 42, "count 0"),
    ],
)
def test_blocks_that_there_are_not(fields, depth, message):
    with pytest.raises(ValueError, match=f"attention.blocks.{message}"):
        Blocks(**fields).check(depth)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blocks(mode="all"), "attention.blocks.mode 'all' is none of fixed, sample"),
        (lambda: AttentionLoss(weight=-1), "attention.weight -1 must be 0 or more"),
        (lambda: AttentionLoss(weight=float("nan")), "attention.weight nan"),
        (lambda: AttentionLoss(direction="t2v"), "attention.direction 't2v' is none of video_to"),
        (lambda: AttentionLoss(norm="max"), "'max' is none of none, text .max and minmax are for"),
        (
            lambda: AttentionLoss(norm="text", direction="both"),
            "attention.norm 'text' is that of direction 'video_to_text'",
        ),
    ],
)
def test_values_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
