"""Every fault becomes one line on stderr and an exit code."""

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable

from trencadis.console import any_encoding, tell
from trencadis.errors import FullMemoryError, RunError, UserError
from trencadis.memory import causes, is_full_memory

FAILED, ASKED_WRONGLY = 1, 2
# A shell adds a signal's number to 128: SIGINT is 2, SIGPIPE 13.
INTERRUPTED, READER_LEFT = 130, 141


def reported(command: Callable[[], int]) -> int:
    """Run a command; print what goes wrong as one line, and return the exit code.

    With TRENCADIS_DEBUG=1 in the environment the traceback comes before the line.
    """
    with warnings.catch_warnings(), any_encoding():
        warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
        try:
            code = command()
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
        except SystemExit as request:
            if isinstance(request.code, str):
                _say(f"error: {request.code}")
            return request.code if isinstance(request.code, int) else int(request.code is not None)
        except BrokenPipeError:
            if sys.stdout is not None:  # or Python would fail once more when it flushes stdout at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return READER_LEFT
        except BaseException as error:
            if os.environ.get("TRENCADIS_DEBUG") == "1":
                traceback.print_exc()
            line, code = explain(error)
            _say(line)
            return code


def explain(error: BaseException) -> tuple[str, int]:
    """Return the line for a fault and the exit code."""
    every = causes(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    full = next((cause for cause in every if is_full_memory(cause)), None)
    if isinstance(full, FullMemoryError):
        return f"error: {full}", FAILED
    if full is not None:
        return "error: the memory is full; ask for fewer pictures at once, or take a smaller batch or model", FAILED
    if isinstance(error, UserError):
        return f"error: {error}", ASKED_WRONGLY
    if any(_is_full_disk(cause) for cause in every):
        return "error: the disk is full; free some space and run the same command again", ASKED_WRONGLY
    if isinstance(error, RunError):
        return f"error: {error}", FAILED
    if isinstance(error, OSError) and error.filename is not None:
        return f"error: {error.filename}: {(error.strerror or str(error)).lower()}", FAILED
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    advice = "run it again with TRENCADIS_DEBUG=1 and report what it prints on the project's issue tracker"
    return f"error: this is a bug in trencadis: {reason}; {advice}", FAILED


def _is_full_disk(error: BaseException) -> bool:
    # Libraries written in Rust and C++ raise their own kinds and leave the reason in the text.
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full)


def _say(line: str) -> None:
    tell("trencadis: " + " ".join(line.split()))
