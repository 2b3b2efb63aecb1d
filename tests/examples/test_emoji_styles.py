"""The later styles of the emoji dataset: icons that are named, and their part of the split."""

import json
from collections.abc import Sequence

import captions
import numpy as np
import packages
import pictures
import pytest
import split
from catalog import Emoji, make_emoji
from icons import keyed, read_names

LABELS = [
    ("bird", "1f426"),
    ("flag: Japan", "1f1ef-1f1f5"),
    ("piñata", "1fa85"),
    ("eggplant", "1f346"),
    ("keycap: #", "23-20e3"),
]
SHORTCODES = [json.dumps({"1F426": ["bird", "tweet"], "1F680": "rocket"}).encode(), b'{"1F681": ["rocket"]}']


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("bird", "1f426"),
        ("bird-1", "1f426"),
        ("tweet", "1f426"),
        ("rocket", "1f680"),
        ("flag-for-japan", "1f1ef-1f1f5"),
        ("japan", "1f1ef-1f1f5"),
        ("pinata", "1fa85"),
        ("aubergine", "1f346"),
        ("keycap-#", "23-20e3"),
    ],
)
def test_a_name_means_codepoints(name: str, key: str) -> None:
    assert keyed({name: b"icon"}, read_names(LABELS, SHORTCODES)) == {key: b"icon"}


def test_an_icon_whose_name_means_nothing_is_left_out() -> None:
    assert keyed({"foxweary": b"icon", "bird-2": b"icon"}, read_names(LABELS, SHORTCODES)) == {}


@pytest.mark.parametrize("order", [("bird", "bird-1"), ("bird-1", "bird")])
def test_of_two_icons_of_an_emoji_the_one_with_the_plain_name_is_kept(order: Sequence[str]) -> None:
    icons = {name: name.encode() for name in order}
    assert keyed(icons, read_names(LABELS, SHORTCODES)) == {"1f426": b"bird"}


def test_each_style_has_a_package_a_name_a_family_and_a_margin() -> None:
    assert set(split.LATER_STYLES) == set(packages.NAMED_STYLES)
    assert not set(packages.STYLES) & set(packages.NAMED_STYLES)
    styles = set(packages.STYLES | packages.NAMED_STYLES)
    assert styles == set(captions.STYLE_NAMES) == set(split.FAMILIES) == set(pictures.FILL)
    assert len(set(captions.STYLE_NAMES.values())) == len(styles)


@pytest.fixture
def emoji() -> list[Emoji]:
    """Things, coloured hearts, and a role with genders and tones."""
    things = [make_emoji(f"{0x1F600 + number:X}", f"thing {number}") for number in range(60)]
    hearts = [
        make_emoji(f"{0x1F499 + at:X}", f"{name} heart")
        for at, name in enumerate(["blue", "green", "yellow", "purple"])
    ]
    roles = [
        make_emoji(f"{person}-{code}-200D-1F680", f"{who} astronaut: {tone} skin tone", group=1)
        for person, who in [("1F468", "man"), ("1F469", "woman")]
        for code, tone in [("1F3FB", "light"), ("1F3FD", "medium"), ("1F3FF", "dark")]
    ]
    return [*things, *hearts, *roles]


def drawn(emoji: Sequence[Emoji], styles: Sequence[str]) -> list[split.Drawn]:
    """Draw noise: no two drawings look alike."""
    noise = np.random.default_rng(7)
    return [split.Drawn(one, style, noise.integers(0, 256, 48, np.uint8)) for style in styles for one in emoji]


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold out so much that a small set has something of every kind."""
    for name, share in [("CONCEPT", 0.15), ("COLOUR", 0.4), ("STYLE", 0.15), ("ROLE", 0.3)]:
        monkeypatch.setattr(split, f"{name}_SHARE", share)


@pytest.mark.usefixtures("shares")
def test_later_styles_leave_the_split_of_the_first_ones_and_hold_out_the_same_cells(emoji: list[Emoji]) -> None:
    first = drawn(emoji, ["3d", "noto", "twemoji"])
    before = split.find_cells(first)
    after = split.find_cells([*first, *drawn(emoji, split.LATER_STYLES)])
    kinds = set()
    for one in first:
        reason = before.split_of(one.emoji, one.style)
        assert after.split_of(one.emoji, one.style) == reason
        if reason in ("concept", "colour_cell", "role_cell"):
            kinds.add(reason)
            assert {after.split_of(one.emoji, style) for style in split.LATER_STYLES} == {reason}
    assert kinds == {"concept", "colour_cell", "role_cell"}
    own = {
        style: {one.key for one in emoji if after.split_of(one, style) == "style_cell"} for style in split.LATER_STYLES
    }
    assert all(own.values())
    assert len({frozenset(keys) for keys in own.values()}) == len(own)


@pytest.mark.usefixtures("shares")
def test_a_later_drawing_that_looks_like_a_held_out_one_is_held_out(emoji: list[Emoji]) -> None:
    first = drawn(emoji, ["3d", "noto", "twemoji"])
    cells = split.find_cells(first)
    held = next(one for one in first if cells.split_of(one.emoji, one.style) == "style_cell")
    copy = split.Drawn(held.emoji, "noto-v1", held.thumbnail)
    other = next(
        one for one in emoji if all(cells.split_of(one, style) == "train" for style in ("3d", "noto", "twemoji"))
    )
    twin = split.Drawn(other, "noto-v1", held.thumbnail)
    after = split.find_cells([*first, copy, twin])
    assert after.split_of(held.emoji, "noto-v1") == "style_cell"
    # The same drawing under another name in that style is held out too.
    assert after.split_of(other, "noto-v1") == "style_cell"
