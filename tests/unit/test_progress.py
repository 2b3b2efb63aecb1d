import io
import sys
from types import SimpleNamespace

import pytest

from trencadis import progress as module
from trencadis.progress import progress, track


class Terminal(io.StringIO):
    """A stderr that a person looks at."""

    def isatty(self) -> bool:
        return True


def look(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal; no fixture, as pytest puts its own stderr in place before each test's body."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_items_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("tiles"), "counting")) == list("tiles")
    assert list(track([], "counting")) == []


def test_short_work_prints_nothing_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(range(100), "counting"))
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_a_line_now_and_then_to_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = iter(range(0, 1000, 20))  # twenty seconds an item
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock_s))))
    with progress("training [clip]", 8, done=2) as advance:
        for step in range(6):
            advance(loss=2.0 - step / 4)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "training [clip]: 4/8, 40 s, about 80 s left, loss 1.75",
        "training [clip]: 6/8, 80 s, about 40 s left, loss 1.25",
        "training [clip]: 8/8, 120 s, about 0 s left, loss 0.75",
    ]


def test_work_of_unknown_length_is_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    list(track(iter(range(2)), "reading"))
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == ["reading: 1", "reading: 2"]


def test_a_terminal_shows_a_bar_with_what_is_said_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    with progress("drawing [1]", 4) as advance:
        advance(3, score=0.25, best="a [b]")
    shown = terminal.getvalue()
    assert "drawing [1]" in shown
    assert "3/4" in shown
    assert "score 0.25, best a [b]" in shown


def test_work_inside_work_adds_a_bar_to_the_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    with progress("outer", 2) as advance:
        list(track(range(3), "inner"))
        advance()
    with progress("later", 1):
        pass
    shown = terminal.getvalue()
    assert all(name in shown for name in ("outer", "inner", "later"))


def test_bars_leave_the_output_of_a_pipe_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = look(monkeypatch)
    with progress("drawing", 1):
        print("result")
    assert capsys.readouterr().out == "result\n"
    assert "result" not in terminal.getvalue()


def test_an_exception_ends_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    look(monkeypatch)
    with pytest.raises(ZeroDivisionError), progress("outer", 1), progress("inner", 1):
        _ = 1 // 0
    with progress("later", 1):
        assert module._shown.get() is not None
    assert module._shown.get() is None


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_bars_are_drawn_on_any_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    look(monkeypatch)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", Narrow(raw, encoding, errors="backslashreplace"))
    with progress("drawing", 20_000) as advance:
        advance(10_240, best="кот \x1b[2J\udcff", steps=12_345.0)
    shown = raw.getvalue().decode(encoding)
    assert "10,240/20,000" in shown
    assert "steps 12,345" in shown
    assert "\x1b[2J" not in shown
    assert r"\x1b[2J\xff" in shown
