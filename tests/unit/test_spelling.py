import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trencadis.spelling import (
    MAX_STEM_BYTES,
    counted,
    encodable,
    file_stem,
    json_text,
    number_text,
    printable,
    typed_number,
)

# Lone surrogates too, which Python makes of bytes that are no UTF-8.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_what_is_shown_is_one_line_that_a_terminal_does_not_obey(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert shown.splitlines() in ([], [shown])
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines\tand a tab", r"two\nlines\tand a tab"),
        ("\x9b31m", r"\x9b31m"),
        ("\udcff\udc80 \ud83d", r"\xff\x80 \ud83d"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("שלום, ليل, 👨‍👩‍👧, e\u0301, می‌خواهم", "שלום, ليل, 👨‍👩‍👧, e\u0301, می‌خواهم"),
    ],
)
def test_only_what_a_terminal_obeys_is_spelled(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY_TEXT, st.sampled_from(["utf-8", "latin-1", "ascii", "cp1252", "shift_jis"]))
def test_json_gives_back_the_exact_text_in_every_encoding(text: str, encoding: str) -> None:
    written = json_text({"prompt": text}, encoding=encoding)
    assert json.loads(written.encode(encoding).decode(encoding)) == {"prompt": text}
    assert printable(written) == written
    assert json.loads(json_text([text], encoding=encoding, indent=2)) == [text]


def test_json_keeps_the_characters_that_the_encoding_has() -> None:
    assert json_text("кот é", encoding="utf-8") == '"кот é"'
    assert json_text("é", encoding="latin-1") == '"é"'
    assert json_text("кот", encoding="latin-1") == r'"\u043a\u043e\u0442"'


@given(ANY_TEXT)
def test_a_text_becomes_encodable(text: str) -> None:
    encodable(text).encode()
    if not any(unicodedata.category(c) == "Cs" for c in text):
        assert encodable(text) == text


@given(ANY_TEXT)
def test_every_text_makes_a_name_that_every_system_takes(text: str) -> None:
    stem = file_stem(text, otherwise="drawn")
    assert 1 <= len(stem.encode()) <= MAX_STEM_BYTES
    assert unicodedata.category(stem[0])[0] in "LN"
    assert set('/\\:*?"<>|.\0 ').isdisjoint(stem)
    assert stem.isprintable()


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("A Red heart, 3D style!", "a-red-heart-3d-style"),
        ("💔", "broken-heart"),
        ("❤️‍🔥", "heavy-black-heart-fire"),
        ("1️⃣ ☕", "1-hot-beverage"),
        ("красное сердце", "красное-сердце"),
        ("नमस्ते दुनिया", "नमस्ते-दुनिया"),
        ("שָׁלוֹם", "שָׁלוֹם"),
        ("می‌خواهم", "میخواهم"),
        ("e\u0301te\u0301", "été"),
        ("../../etc/passwd", "etc-passwd"),
        ("猫" * 100, "猫" * 20),
        ("\u0301", "drawn"),
        (".", "drawn"),
        ("", "drawn"),
        ("\udcff", "drawn"),
    ],
)
def test_a_prompt_can_be_read_from_the_name(text: str, stem: str) -> None:
    assert file_stem(text, otherwise="drawn") == stem


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (10240, "10,240"),
        (10240.0, "10,240"),
        (2**63 - 1, "9,223,372,036,854,775,807"),
        (1e9, "1,000,000,000"),
        (0.951234, "0.9512"),
        (1234.56, "1,235"),
        (999.97, "1,000"),
        (-3.5, "-3.5"),
        (1e-6, "1e-06"),
        (0, "0"),
    ],
)
def test_numbers_are_whole_and_in_groups(number: float | int, text: str) -> None:
    assert number_text(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (10240, "10240"),
        (1e8, "100000000"),
        (0.99999, "0.99999"),
        (1e-6, "1e-06"),
        (1.0, "1"),
        (2**63 - 1, str(2**63 - 1)),
    ],
)
def test_limits_are_shown_as_they_are_typed(number: float | int, text: str) -> None:
    assert typed_number(number) == text


def test_counted() -> None:
    assert [counted(count, "pair") for count in (0, 1, 2, 10_240)] == ["0 pairs", "1 pair", "2 pairs", "10,240 pairs"]
