from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import ImageFont

from trencadis.data import fonts
from trencadis.data.fonts import font_for, shows, system_fonts


@pytest.fixture
def fresh() -> Iterator[None]:
    """Search for fonts anew, and again after the test."""
    system_fonts.cache_clear()
    yield
    system_fonts.cache_clear()


def test_pillows_own_font_shows_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", lambda: pytest.fail("no font of the system is needed"))
    font = font_for("a red heart, 3D style (12)", 12)
    assert shows(font, "a")
    assert shows(font, " ")


def test_a_font_of_the_system_shows_what_pillows_lacks() -> None:
    cyrillic = [path for path in system_fonts() if shows(ImageFont.truetype(path, 12), "ж")]
    if not cyrillic:
        pytest.skip("no font of this system has Cyrillic")
    own = ImageFont.load_default(12)
    assert not shows(own, "ж")
    assert all(shows(font_for("красное сердце", 12), letter) for letter in "красное сердце")


@pytest.mark.usefixtures("fresh")
def test_damaged_fonts_and_absent_folders_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "damaged.ttf").write_bytes(b"\0\1\0\0 no font")
    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path / "absent", tmp_path / "fonts"])
    assert [path.name for path in system_fonts()] == ["damaged.ttf"]
    assert not shows(font_for("ж", 12), "ж")


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_system_has_its_folders(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert all(folder.name.lower() in ("fonts", ".fonts") for folder in fonts._folders())


@pytest.mark.usefixtures("fresh")
def test_plain_fonts_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A-Bold.ttf", "Z.otf", "M.TTC", "SansMono.ttf", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path])
    assert [path.name for path in system_fonts()] == ["M.TTC", "Z.otf", "A-Bold.ttf", "SansMono.ttf"]
