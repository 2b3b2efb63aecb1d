"""Requests that ask a model something and draw nothing."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from trencadis.serving.faults import ApiError, of_failure, too_late

_LOG = logging.getLogger("trencadis.serving")


@dataclass(eq=False)
class Question:
    """Waits for its turn in a scheduler.

    Args:
        answer: Asks the model, in the scheduler's thread.
        client: Whose turn it takes: a key or an address.
        wait_s: How long it may wait.

    Attributes:
        answered: What `answer` returned, or an `ApiError`. Once it is cancelled, the model is not asked.
    """

    answer: Callable[[], Any]
    client: str
    wait_s: float
    since: float = field(default_factory=time.monotonic)
    answered: "Future[Any]" = field(default_factory=Future)
    admitted: int = 0
    candidates: int = 1  # it needs one turn

    def settle(self) -> None:
        """Ask the model, unless the client has left or it is too late."""
        if not self.answered.set_running_or_notify_cancel():
            return
        try:
            if time.monotonic() > self.since + self.wait_s:
                raise too_late(self.wait_s)
            answer = self.answer()
        except Exception as error:
            fault = of_failure(error)
            if fault.status == 500:
                _LOG.exception("answering failed")
            self.answered.set_exception(fault)
        else:
            self.answered.set_result(answer)

    def refuse(self, error: ApiError) -> None:
        """Answer with an error."""
        if self.answered.set_running_or_notify_cancel():
            self.answered.set_exception(error)
