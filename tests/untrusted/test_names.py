"""Names out of files lead into their folder, or are refused."""

import pytest

from tavid_jax.untrusted.errors import UnsafeNameError
from tavid_jax.untrusted.names import check_name, inside, safe_name

BAD = [
    "", " ", ".", "..", "../x", "a/../../x", "a/..", "/etc/passwd", "//host/x", "C:\\x", "C:x",
    "\\\\host\\x", "a\\b", "a\0b", "a\nb", "x" * 300, "a/" * 1500, "\ud800", None, 3,
]  # fmt: skip


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_names_that_lead_elsewhere_are_refused(name, tmp_path):
    with pytest.raises(UnsafeNameError):
        inside(tmp_path, name)
    with pytest.raises(UnsafeNameError):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "a.b", "..a", "a/b/c.npz", "é 𝕏", "a b", "~x", "-rf"])
def test_names_inside(name, tmp_path):
    assert inside(tmp_path, name) == tmp_path / name
    if "/" not in name:
        assert check_name(name) == name


def test_links_that_lead_out_are_refused(tmp_path):
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    (away / "x").touch()
    (home / "out").symlink_to(away)
    (home / "in").symlink_to(home / "real")
    (home / "loop").symlink_to(home / "loop")
    for name in ("out", "out/x", "out/new"):
        with pytest.raises(UnsafeNameError, match="by a link to"):
            inside(home, name)
    assert inside(home, "in/x") == home / "in" / "x"
    linked = tmp_path / "linked"
    linked.symlink_to(home)  # the folder itself may be a link
    assert inside(linked, "a") == linked / "a"


@pytest.mark.parametrize(
    "text, name",
    [("a b/c", "a_b_c"), ("../../x", "_.._x"), ("", "_"), ("..", "_"), ("é" * 300, "é" * 100)],
)
def test_safe_name_makes_one_of_any_text(text, name, tmp_path):
    assert safe_name(text) == name
    assert inside(tmp_path, safe_name(text)).parent == tmp_path
