"""Tokens around trajectories: by hand, and against a loop over all tokens."""

import itertools
import math

import numpy as np
import pytest

from tavid_jax.tracks.neighbourhoods import (
    CENTRES,
    OVERLAPS,
    REGIONS,
    TIMES,
    UNITS,
    Rule,
    capacity,
    mask_areas,
    neighbourhoods,
    object_scales,
    outside,
    owner_map,
)
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError

GRID = (3, 7, 9)
HW = (7 * 16, 9 * 16)
TOKENS = math.prod(GRID)
T = 9
PUBLISHED = Rule()


def still(*cells, shift=(0, 0)):
    """Points that stay in the middle of a token (row, column), or `shift` (x, y) px beside it."""
    xy = np.array(cells, np.float32)[:, ::-1] * 16 + 7.5 + np.array(shift, np.float32)
    return np.repeat(xy[:, None], T, 1)


def near(tracks, rule=PUBLISHED, seen=None, **options):
    seen = np.ones(tracks.shape[:2], bool) if seen is None else seen
    return neighbourhoods(tracks, seen, HW, GRID, rule, **options)


def used(pairs):
    """[(frame, row, column, owner, gauss, share)] of the pairs in use."""
    count = int((pairs.token < TOKENS).sum())
    assert (pairs.token[count:] == TOKENS).all() and (pairs.owner[count:] == 0).all()
    assert (pairs.gauss[count:] == 1).all() and (pairs.share[count:] == 0).all()
    assert (np.diff(pairs.token) >= 0).all() and (pairs.gauss > 0).all()
    kinds = [values.dtype for values in pairs]
    assert kinds == [np.int32, np.int32, np.float32, np.float32]
    places = np.stack(np.unravel_index(pairs.token[:count], GRID), -1).tolist()
    values = (part[:count].tolist() for part in pairs[1:])
    return [(*place, *rest) for place, *rest in zip(places, *values, strict=True)]


def at(pairs, k=0):
    """{(row, column): G} of a latent frame, of one trajectory."""
    return {(i, j): gauss for frame, i, j, _, gauss, _ in used(pairs) if frame == k}


def test_a_disc_of_13_and_a_square_of_25_tokens():
    for shift in ((0, 0), (7.9, 7.9), (-8, 3)):  # "floor": wherever in the token the point is
        disc = at(near(still((3, 4), shift=shift)))
        values = {0: 1.0, 1: 0.6065, 2: 0.3679, 4: 0.1353}
        want = {
            (3 + i, 4 + j): values[i * i + j * j]
            for i in range(-2, 3)
            for j in range(-2, 3)
            if i * i + j * j <= 4
        }
        assert len(want) == 13 and disc == pytest.approx(want, abs=5e-5)
    square = at(near(still((3, 4)), Rule(region="square")), 2)
    assert len(square) == 25
    assert square[5, 5] == pytest.approx(0.0821, abs=5e-5)
    assert square[1, 2] == pytest.approx(0.0183, abs=5e-5)
    assert list(at(near(still((3, 4)), Rule(radius=0)))) == [(3, 4)]


def test_neighbourhoods_end_at_the_frames_border():
    corner = at(near(still((0, 0))))
    assert set(corner) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)}
    assert len(at(near(still((6, 4))))) == 9  # three rows of 13: 5 + 3 + 1
    assert len(at(near(still((6, 8)), Rule(region="square")))) == 9


def test_pixel_centres_are_integers():
    """Columns 0 to 15 are the first token's: its centre is at 7.5, the frame ends at W - 1/2."""
    for x, column in ((-0.5, 0), (0, 0), (15, 0), (15.4375, 0), (15.5, 1), (16, 1), (143.4375, 8)):
        tracks = np.full((1, T, 2), (x, 55.5), np.float32)
        assert list(at(near(tracks, Rule(radius=0)))) == [(3, column)]
    for x in (-0.5625, 143.5):
        assert not used(near(np.full((1, T, 2), (x, 55.5), np.float32)))
    middle = at(near(still((3, 4)), Rule(centre="continuous")))
    assert middle == at(near(still((3, 4))))
    # On the edge between columns 4 and 5, both are half a token away.
    edge = at(near(still((3, 4), shift=(8, 0)), Rule(centre="continuous")))
    assert edge[3, 4] == edge[3, 5] == pytest.approx(math.exp(-1 / 8))
    assert edge[3, 3] == edge[3, 6] == pytest.approx(math.exp(-9 / 8))
    assert (3, 2) not in edge and (3, 7) not in edge and (1, 4) not in edge
    alone = at(near(still((3, 4), shift=(7, 7)), Rule(centre="continuous", radius=0)))
    assert list(alone) == [(3, 4)]


def test_units_are_tokens_latent_positions_and_pixels():
    for unit, length in (("token", 1), ("latent", 2), ("pixel", 16)):
        rule = Rule(radius=2 * length, sigma=length, unit=unit)
        assert used(near(still((3, 4)), rule)) == used(near(still((3, 4))))
    # Twice as many pixels to a token: as many pixels are half as many tokens.
    tracks = np.full((1, T, 2), 31.5 + 64, np.float32)
    wide = neighbourhoods(
        tracks, np.ones((1, T), bool), (224, 288), GRID, Rule(radius=32, sigma=16, unit="pixel")
    )
    assert len(at(wide)) == 5


def test_of_which_frame_a_latent_frame_takes_the_place():
    tracks = np.zeros((1, T, 2), np.float32)
    columns = np.array([0, 1, 1, 1, 3, 4, 4, 6, 6])  # latent frames: 0 | 1 1 1 3 | 4 4 6 6
    tracks[0, :, 0], tracks[0, :, 1] = columns * 16 + 7.5, 7.5
    alone = Rule(radius=0)
    assert [entry[:3] for entry in used(near(tracks, alone))] == [(0, 0, 0), (1, 0, 3), (2, 0, 6)]
    # Means of the places are 1.5 and 5, of those that are visible 1 and 4.
    mean = Rule(radius=0, time="mean")
    assert [entry[:3] for entry in used(near(tracks, mean))] == [(0, 0, 0), (1, 0, 2), (2, 0, 5)]
    seen = np.array([[1, 1, 1, 1, 0, 1, 1, 0, 0]], bool)
    assert [e[:3] for e in used(near(tracks, mean, seen))] == [(0, 0, 0), (1, 0, 1), (2, 0, 4)]
    outer = tracks.copy()
    outer[0, 4] = 1e4  # invisible there, so that the mean is of the others
    assert [e[:3] for e in used(near(outer, mean))] == [(0, 0, 0), (1, 0, 1), (2, 0, 5)]


@pytest.mark.parametrize("time", TIMES)
def test_what_is_not_visible_has_no_neighbourhood(time):
    tracks = still((2, 2), (4, 6))
    seen = np.ones((2, T), bool)
    seen[0, 1:5] = False
    tracks[0, 1:5] = np.nan  # not read
    pairs, all_pairs = near(tracks, Rule(time=time), seen), near(still((2, 2), (4, 6)))
    hidden = [entry for entry in used(all_pairs) if entry[0] == 1 and entry[3] == 0]
    assert len(hidden) == 13
    assert used(pairs) == [entry for entry in used(all_pairs) if entry not in hidden]
    seen = np.ones((2, T), bool)
    seen[0, 4] = False
    gone = used(near(still((2, 2), (4, 6)), Rule(time=time), seen))
    # One frame of four counts for "sample" if it is the last, for "mean" if it is the only one.
    assert gone == (used(pairs) if time == "sample" else used(all_pairs))


def test_the_nearest_trajectory_has_the_token_and_the_first_of_equals():
    owner, gauss = owner_map(near(still((3, 3), (3, 5))), TOKENS)
    owner, gauss = owner.reshape(GRID)[1], gauss.reshape(GRID)[1]
    # Column 4 is one token from both: the first has it.
    assert owner[3].tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 0]
    assert owner[2].tolist() == [0, 0, 1, 1, 1, 2, 2, 0, 0]
    assert gauss[3, 4] == pytest.approx(math.exp(-0.5)) and gauss[3, 0] == 1
    swapped, _ = owner_map(near(still((3, 5), (3, 3))), TOKENS)
    assert swapped.reshape(GRID)[1, 3].tolist() == [0, 2, 2, 2, 1, 1, 1, 1, 0]
    same, _ = owner_map(near(still((3, 3), (3, 3))), TOKENS)
    assert set(same.tolist()) == {0, 1}
    # Far from both G is no number of float32, and still the nearer one has the token.
    far, near_none = owner_map(near(still((3, 1), (3, 6)), Rule(radius=4, sigma=0.1)), TOKENS)
    assert far.reshape(GRID)[0, 3].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert (near_none > 0).all()


def test_blend_shares_and_concat_pairs():
    tracks = still((3, 3), (3, 5))
    blend = {e[:4]: e[5] for e in used(near(tracks, Rule(overlap="blend")))}
    assert len(blend) == 3 * 26
    assert blend[0, 3, 4, 0] == blend[0, 3, 4, 1] == 0.5
    # Token (3, 3): G is 1 and exp(-2).
    assert blend[0, 3, 3, 0] == pytest.approx(1 / (1 + math.exp(-2)))
    assert blend[0, 3, 3, 1] == pytest.approx(math.exp(-2) / (1 + math.exp(-2)))
    concat = used(near(tracks, Rule(overlap="concat")))
    assert [entry[:4] for entry in concat] == list(blend)
    assert {entry[5] for entry in concat} == {1}


def test_owner_map_of_shared_tokens_shows_the_nearest():
    tracks = still((3, 3), (3, 5), (4, 4))
    want = owner_map(near(tracks), TOKENS)
    for overlap in ("blend", "concat"):
        got = owner_map(near(tracks, Rule(overlap=overlap)), TOKENS)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_order_of_trajectories_is_no_matter_where_they_do_not_meet():
    rng = np.random.default_rng(0)
    tracks = rng.uniform(0, HW[0], (4, T, 2)).astype(np.float32)
    order = rng.permutation(4)
    rule = Rule(centre="continuous")  # no ties
    owner, gauss = owner_map(near(tracks, rule), TOKENS)
    other, other_gauss = owner_map(near(tracks[order], rule), TOKENS)
    np.testing.assert_array_equal(np.concatenate([[0], order + 1])[other], owner)
    np.testing.assert_array_equal(gauss, other_gauss)


def test_padding_has_no_neighbourhood():
    tracks = still((1, 1), (3, 3), (5, 5))
    tracks[1] = np.nan
    pairs = near(tracks, valid=np.array([True, False, True]), points=4)
    assert len(pairs.token) == capacity(Rule(), 4, GRID, HW) == 4 * 3 * 13
    assert {entry[3] for entry in used(pairs)} == {0, 2}
    assert not used(near(np.zeros((0, T, 2), np.float32), points=2))


def test_objects_of_other_sizes():
    areas = np.array([math.pi * 32**2, 4 * math.pi * 32**2, 0, math.pi, 1e6])
    for unit, length in (("token", 1), ("latent", 2), ("pixel", 16)):
        rule = Rule(radius=2 * length, sigma=length, unit=unit, per_object=True)
        scales = object_scales(areas, rule, HW, GRID)
        np.testing.assert_allclose(scales[:4], [1, 2, 1, 1 / 32], rtol=1e-6)
    cells = [(3, 4)] * 5
    rows = [at(near(still(cells[n]), rule, scale=scales[n : n + 1])) for n in range(5)]
    # Radius 2, 4, 2, and by the range 1 and 4 again.
    assert [sum(i == 3 for i, _ in row) for row in rows] == [5, 9, 5, 3, 9]
    assert rows[1][3, 8] == pytest.approx(math.exp(-2))  # sigma grows alike
    assert (
        near(still((3, 4)), rule).token.tolist()
        == near(still((3, 4)), rule, scale=np.ones(1)).token.tolist()
    )
    padded = near(still((3, 4), (0, 0)), rule, scale=np.zeros(2) + (1, 0), valid=np.arange(2) < 1)
    assert at(padded) == rows[0]
    fixed = near(still((3, 4)), scale=np.full(1, 2.0))  # not per_object: not read
    assert len(at(fixed)) == 13
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :2], masks[1, 0, 0] = True, True
    assert mask_areas(masks, np.array([2, 0, 1])).tolist() == [1, 0, 8]


def slow(tracks, seen, size_hw, grid, rule, scale, patch):
    """{(token, owner): (G, share)} by a loop over all tokens, trajectories and latent frames."""
    height, width = size_hw
    pitch_y, pitch_x = height // grid[1], width // grid[2]
    unit = {"token": (1, 1), "latent": (patch, patch), "pixel": (pitch_y, pitch_x)}[rule.unit]
    found = {}
    for k, i, j in np.ndindex(*grid):
        token, mine = (k * grid[1] + i) * grid[2] + j, []
        for n in range(len(tracks)):
            group = [4 * k] if rule.time == "sample" else range(max(0, 4 * k - 3), 4 * k + 1)
            spots = [
                tracks[n, t].astype(float) + 0.5
                for t in group
                if seen[n, t]
                and -0.5 <= tracks[n, t, 0] < width - 0.5
                and -0.5 <= tracks[n, t, 1] < height - 0.5
            ]
            if not spots:
                continue
            x, y = np.mean(spots, axis=0) / (pitch_x, pitch_y)
            own = math.floor(y), math.floor(x)
            middle = own if rule.centre == "floor" else (y - 0.5, x - 0.5)
            dy, dx = (i - middle[0]) * unit[0], (j - middle[1]) * unit[1]
            factor = min(max(scale[n], 0.5), 2.0) if rule.per_object else 1
            distance = math.hypot(dy, dx) if rule.region == "disc" else max(abs(dy), abs(dx))
            if distance <= rule.radius * factor or own == (i, j):
                square = dy * dy + dx * dx
                mine.append((math.exp(-square / (2 * (rule.sigma * factor) ** 2)), -n))
        if rule.overlap == "owner" and mine:
            mine = [max(mine)]
        total = sum(gauss for gauss, _ in mine) if rule.overlap == "blend" else 1
        for gauss, n in mine:
            found[token, -n] = gauss, gauss / total if rule.overlap == "blend" else 1
    return found


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("per_object", [False, True])
def test_a_loop_over_all_tokens_finds_the_same(unit, per_object):
    rng = np.random.default_rng(5)
    grid, size_hw, patch = (3, 4, 6), (4 * 16, 6 * 24), 4  # tokens need not be square
    length = {"token": 1, "latent": 4, "pixel": 18}[unit]
    for modes in itertools.product(CENTRES, REGIONS, TIMES, OVERLAPS):
        named = dict(zip(("centre", "region", "time", "overlap"), modes, strict=True))
        radius, sigma = rng.uniform(0.2, 2.6) * length, rng.uniform(0.5, 2) * length
        rule = Rule(radius, sigma, unit, per_object=per_object, **named)
        tracks = rng.uniform(-15, 150, (4, T, 2)).astype(np.float32) * (1, 0.5)
        seen, scale = rng.random((4, T)) < 0.7, rng.uniform(0.2, 3, 4)
        want = slow(tracks, seen, size_hw, grid, rule, scale, patch)
        pairs = neighbourhoods(tracks, seen, size_hw, grid, rule, scale=scale, patch=patch)
        assert len(pairs.token) == capacity(rule, 4, grid, size_hw, patch)
        count = int((pairs.token < 72).sum())
        keys = list(zip(pairs.token[:count].tolist(), pairs.owner[:count].tolist(), strict=True))
        assert keys == sorted(want), rule
        values = np.array([want[key] for key in keys]).reshape(-1, 2)
        np.testing.assert_allclose(pairs.gauss[:count], values[:, 0], rtol=1e-5)
        np.testing.assert_allclose(pairs.share[:count], values[:, 1], rtol=1e-5)
        if rule.overlap == "blend":
            sums = np.bincount(pairs.token[:count], pairs.share[:count])
            np.testing.assert_allclose(sums[sums > 0], 1, rtol=1e-6)


def test_capacity_is_reached_and_static():
    # Two points that keep apart, away from the border.
    apart = near(still((2, 2), (4, 6)), Rule(overlap="concat"))
    assert len(used(apart)) == len(apart.token) == capacity(Rule(), 2, GRID, HW) == 2 * 3 * 13
    everywhere = Rule(radius=100, region="square")
    assert capacity(everywhere, 3, GRID, HW) == TOKENS
    many = near(still((2, 2), (4, 6)), Rule(radius=100, overlap="blend"))
    assert len(used(many)) == len(many.token) == 2 * TOKENS
    assert capacity(Rule(), 5, (21, 30, 52), (480, 832)) == 5 * 21 * 13
    assert capacity(Rule(region="square"), 40, (21, 30, 52), (480, 832)) == 40 * 21 * 25
    assert capacity(Rule(centre="continuous", region="square"), 1, GRID, HW) == 3 * 25
    assert capacity(Rule(per_object=True), 1, GRID, HW) == 3 * 49


def test_places_outside_of_the_frame_are_counted():
    tracks = still((3, 3), (5, 5))
    tracks[0, 2:5] = (-3, 20)
    tracks[1, 0] = (HW[1] - 0.5, 20)
    seen = np.ones((2, T), bool)
    seen[0, 2] = False  # said to be invisible already
    assert outside(Trajectories(tracks, seen, HW)) == 3
    assert outside(Trajectories(still((0, 0)), seen[1:], HW)) == 0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("radius", -1, "radius is -1"),
        ("radius", math.inf, "radius is inf"),
        ("sigma", 0, "sigma is 0"),
        ("sigma", math.nan, "sigma is nan"),
        ("unit", "px", "unit is 'px': use one of token, latent, pixel"),
        ("centre", "round", "centre is 'round': use one of floor"),
        ("region", "circle", "region is 'circle'"),
        ("time", "max", "time is 'max'"),
        ("overlap", "both", "overlap is 'both': use one of owner, blend, concat"),
        ("scale_range", (0, 1), "scale_range is"),
        ("scale_range", (2, 1), "scale_range is"),
    ],
)
def test_rules_name_what_is_wrong(field, value, words):
    with pytest.raises(ValueError, match=words):
        Rule(**{field: value})


def test_refusals():
    tracks, seen = still((3, 3), (5, 5)), np.ones((2, T), bool)
    with pytest.raises(TrajectoryError, match="2 trajectories, there is room for 1: leave some"):
        near(tracks, points=1)
    with pytest.raises(TrajectoryError, match=r"visibility must be \(N, T\) = \(2, 9\).*\(2, 8\)"):
        near(tracks, seen=seen[:, 1:])
    with pytest.raises(TrajectoryError, match="have 8 frames, the 3 latent frames stand for 9"):
        near(tracks[:, 1:])
    broken = tracks.copy()
    broken[1, 3, 0] = np.inf
    with pytest.raises(TrajectoryError, match="point 1 is visible in frame 3, but .* not finite"):
        near(broken)
    with pytest.raises(ValueError, match="150x112 px does not divide into 9x7 tokens"):
        neighbourhoods(tracks, seen, (112, 150), GRID, Rule())
    with pytest.raises(ValueError, match="does not divide"):
        capacity(Rule(), 1, (1, 5, 9), HW)
    grown = Rule(per_object=True)
    for wrong in (0.0, np.nan, -1.0):
        with pytest.raises(ValueError, match="scale must be finite and above 0"):
            near(tracks, grown, scale=np.array([1, wrong]))
        with pytest.raises(ValueError, match="areas must be finite and not negative"):
            object_scales(np.array([1, wrong or np.inf]), grown, HW, GRID)
    for call in (
        lambda: Rule(0, per_object=True),
        lambda: object_scales(np.ones(1), Rule(0), HW, GRID),
    ):
        with pytest.raises(ValueError, match="radius.* is 0"):
            call()
