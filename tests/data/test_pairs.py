"""Partners are other clips of the same action."""

import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.data.pairs import partners

CLIPS = [
    ("actor_01_ani_07_traj_1", 0),
    ("actor_01_ani_07_traj_2", 0),
    ("actor_02_ani_07_traj_1", 0),
    ("actor_03_ani_07_traj_1", 0),
    ("actor_03_ani_07_traj_1", 9),
    ("actor_02_ani_08_traj_1", 0),
    ("a dog", 0),
]


def test_the_next_clip_of_the_action_is_the_partner():
    assert partners(CLIPS, r"ani_(\d+)") == [1, 2, 3, 0, None, None, None]
    assert partners(CLIPS[:2], r"_(?P<action>ani_\d+)") == [1, 0]


def test_partners_differ_in_the_actor_where_that_is_told():
    pattern = r"actor_(?P<actor>\d+)_ani_(?P<action>\d+)"
    assert partners(CLIPS, pattern) == [2, 2, 3, 0, None, None, None]
    assert partners(CLIPS[:2], pattern) == [None, None]


@pytest.mark.parametrize("pattern, words", [("ani_(", "no regular"), ("ani", "has no group")])
def test_patterns_that_tell_nothing(pattern, words):
    with pytest.raises(ClipError, match=words):
        partners(CLIPS, pattern)
