"""Location-aware cross-attention: one block against its definition, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.located import Laca, LocalTexts, cross_attention_port, init_laca
from tavid_jax.models.layers.located import pairs as located_pairs
from tests.models.layers.located import cases

FORMS = {
    "published": Laca(),
    "value": Laca(gaussian="value"),
    "none": Laca(gaussian="none", mask_pads=True),
    "segments value": Laca(gaussian="value", formulation="segments"),
    "segments none": Laca(gaussian="none", formulation="segments"),
    "blend": Laca(overlap="blend"),
    "concat value": Laca(overlap="concat", gaussian="value", mask_pads=True),
    "skip blend": Laca(outside="skip", overlap="blend", gaussian="value"),
    "low rank": Laca(rank=3, alpha=2),
    "low rank of one block": Laca(rank=3, layers=(1,), outside="skip"),
}


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    """So that a trajectory fills several."""
    monkeypatch.setattr(located_pairs, "TILE", 8)


def relative(got, want) -> float:
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    return np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))


@pytest.mark.parametrize(
    "name",
    ["none", "segments none", "blend", "skip blend", "low rank", "low rank of one block"],
)
def test_a_block_equals_the_definition(name: str):
    laca = FORMS[name]
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near(laca.overlap)
    params = cases.start(laca, base)
    layer = 0 if laca.layers else cases.SHRUNK  # the block that is shrunk
    run = jax.jit(lambda params, given: cases.answered(params, laca, given, where, base, layer))
    want = cases.defined(cases.merged(params, laca, base, layer), laca, given, where)
    assert relative(run(params, given), want) <= 1e-5


def test_in_bfloat16_it_stays_near_the_definition():
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near()
    params = cases.start(Laca(), base)

    @jax.jit
    def run(params, given):
        return cases.answered(params, Laca(), given, where, base, 0, dtype=jnp.bfloat16)

    want = cases.defined(cases.merged(params, Laca(), base, 0), Laca(), given, where)
    assert relative(run(params, given), want) <= 0.01


@pytest.mark.parametrize(
    "name",
    [
        "published",
        pytest.param("segments value", marks=pytest.mark.slow),
        pytest.param("concat value", marks=pytest.mark.slow),
    ],
)
def test_a_block_and_its_gradients_equal_the_definition(name: str):
    laca = FORMS[name]
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near(laca.overlap)
    params, layer = cases.start(laca, base), cases.SHRUNK
    cotangent = cases.normal(40, *given["x"].shape)

    @jax.jit
    def run(params, given):
        def ours(params, given):
            return cases.answered(params, laca, given, where, base, layer)

        out, back = jax.vjp(ours, params, given)
        return out, back(cotangent)

    got, (slopes, by_given) = run(params, given)
    with jax.enable_x64(True):

        @jax.jit
        def definition(weights, given, cotangent):
            def run(weights, given):
                return cases.defined(weights, laca, given, where, jnp)

            out, back = jax.vjp(run, weights, given)
            return out, back(cotangent)

        weights = cases.merged(params, laca, base, layer)
        want, (weights, wanted) = definition(weights, given, np.float64(cotangent))
    assert relative(got, want) <= 1e-5
    for what in ("x", "published", "prompt", "text", "strength"):
        assert relative(by_given[what], wanted[what]) <= 1e-4, what
    own = jax.tree.map(lambda leaf: leaf[layer], slopes)
    errors = jax.tree.map(relative, own, weights)
    assert max(jax.tree.leaves(errors)) <= 1e-4, errors


@pytest.mark.parametrize("name", ["published", "low rank of one block"])
def test_a_cache_stands_for_the_texts(name: str):
    laca = FORMS[name]
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near(laca.overlap)
    params = cases.start(laca, base)

    @jax.jit
    def both(params, given):
        return [
            cases.answered(params, laca, given, where, base, 0, cached=c) for c in (False, True)
        ]

    told, cached = both(params, given)
    np.testing.assert_allclose(cached, told, rtol=0, atol=1e-6)


def test_segments_equal_gathering():
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near()
    forms = [FORMS["value"], FORMS["segments value"]]
    params = cases.start(forms[0], base)

    @jax.jit
    def both(params, given):
        return [cases.answered(params, laca, given, where, base, 0) for laca in forms]

    assert relative(*both(params, given)) <= 1e-6


def test_the_order_of_trajectories_does_not_matter():
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near()
    params = cases.start(Laca(), base)
    order = np.array([2, 0, 1])
    turned = cases.Near(*(getattr(where, f)[..., order] for f in ("member", "gauss", "share")))

    @jax.jit
    def both(params, given):
        mixed = {**given, "text": given["text"][:, order]}
        return [
            cases.answered(params, Laca(), given, where, base, 0),
            cases.answered(params, Laca(), mixed, turned, base, 0, lengths=cases.LENGTHS[:, order]),
        ]

    assert relative(*both(params, given)) <= 1e-6


def test_skipping_leaves_other_tokens_to_the_bit():
    laca = Laca(outside="skip", rank=2)
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near()
    params = cases.start(laca, base)
    got = jax.jit(lambda p: cases.answered(p, laca, given, where, base, 0))(params)
    same = np.asarray(got == given["published"]).all(-1)
    np.testing.assert_array_equal(same, ~where.member.any(-1))


def test_a_merged_prompt_is_the_whole_prompt():
    """The bias of its pad is the backbone's."""
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near()
    params, keep = cases.start(Laca(), base), 5
    pad = given["prompt"][:, keep : keep + 1]
    whole = jnp.concatenate(
        [given["prompt"][:, :keep], jnp.repeat(pad, cases.LENGTH - keep, axis=1)], axis=1
    )
    bias = jnp.zeros(keep + 1).at[keep].set(np.log(cases.LENGTH - keep))
    for laca in (Laca(), FORMS["segments none"]):

        @jax.jit
        def both(params, given, laca=laca):
            short = {**given, "prompt": given["prompt"][:, : keep + 1]}
            return [
                cases.answered(params, laca, {**given, "prompt": whole}, where, base, 0),
                cases.answered(params, laca, short, where, base, 0, text_bias=bias),
            ]

        assert relative(*both(params, given)) <= 1e-6


def test_the_start_is_a_copy_of_its_own():
    base = cases.cross_stack()
    params = init_laca(base, Laca(layers=(1,)))
    jax.tree.map(lambda got, all_: np.testing.assert_array_equal(got, all_[1:]), params, base)
    params = init_laca(base, Laca())
    pointers = jax.tree.map(lambda a, b: a.unsafe_buffer_pointer() == b.unsafe_buffer_pointer(),
                            params, base)  # fmt: skip
    assert not any(jax.tree.leaves(pointers))
    low = init_laca(base, Laca(rank=4, layers=(0, 1)), jax.random.key(0))
    assert low["v"]["a"].shape == (2, cases.WIDTH, 4) and not np.any(low["v"]["b"])
    assert abs(np.std(low["q"]["a"]) * cases.WIDTH**0.5 - 1) < 0.2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gaussian": "keys"}, "gaussian is 'keys': use one of input, value, none"),
        ({"overlap": "sum"}, "overlap is 'sum'"),
        ({"outside": "nothing"}, "outside is 'nothing'"),
        ({"formulation": "segments"}, "gaussian value or none, not for 'input': use 'gather'"),
        (
            {"formulation": "segments", "gaussian": "none", "overlap": "blend"},
            "overlap owner, not for 'blend'",
        ),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 2}, "no rank"),
        ({"layers": (1, 0)}, "ascending"),
        ({"layers": ()}, "None for all"),
        ({"strength": float("nan")}, "strength is nan"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, said: str):
    with pytest.raises(ValueError, match=said):
        Laca(**options)


def test_bad_input_is_refused():
    base, given, where = cases.cross_stack(), cases.drawn(), cases.near()
    params = init_laca(base, Laca())
    texts = cases.local_texts(where, given["text"], cases.LENGTHS, given["strength"])

    def port(laca=None, texts: LocalTexts = texts, length: int = cases.LENGTH, **more):
        laca = Laca() if laca is None else laca
        options = {**cases.SIZES, "grid": cases.GRID, "text_length": length, **more}
        return cross_attention_port(params, laca, texts, **options)

    def refused(said: str, call, *args, **options):
        with pytest.raises(ValueError, match=said):
            call(*args, **options)

    refused("also reads an image", init_laca, {**base, "image_k": base["k"]}, Laca())
    refused("block 2 of 2 does not exist; use 0 to 1", init_laca, base, Laca(layers=(2,)))
    refused("rank 2 needs a key", init_laca, base, Laca(rank=2))
    refused("rank 2 stands on the published one: give base", port, Laca(rank=2))
    refused("texts.text, or caches: exactly one", port, texts=texts.replace(text=None))
    refused(r"one length for each", port, texts=texts.replace(lengths=texts.lengths[:, :2]))
    refused(r"LocalTexts.gauss has shape", port, texts=texts.replace(gauss=texts.gauss[:, 1:]))
    refused(r"strength has shape \(1,\)", port, texts=texts.replace(strength=jnp.zeros(1)))
    refused("of 7 positions: the model reads texts of 6", port, length=6)

    def read(x, context):
        made = port()
        own = jax.tree.map(lambda leaf: leaf[0], made.params)
        return made.apply(own, x, context, lambda: x, made.inputs)

    refused("give caches", jax.eval_shape, read, given["x"], {})
    refused("the batch has 1", jax.eval_shape, read, given["x"][:1], {"text": given["prompt"]})
