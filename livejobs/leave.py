"""The orderly end of a child of the pool: SIGTERM waits until the item in hand is done and its checkpoint is written.

It does so for attempts that have a checkpoint. All others end at once, as Celery has it.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from livejobs import stop

#: Seconds that an item may take until the child ends all the same: the item is then done again.
PATIENCE = 5.0


class Leaving:
    """Whether this process has been asked to end, and what it waits for."""

    def __init__(self) -> None:
        self.asked = False
        self.ask: Callable[[], Any] | None = None  # tells the attempt that runs; None if it has no checkpoint
        self.handler: Any = signal.SIG_DFL  # that of SIGTERM before
        self.pid = 0


leaving = Leaving()


def listen(ask: Callable[[], Any]) -> None:
    """Take SIGTERM, in a child of the prefork pool; elsewhere do nothing.

    Args:
        ask: tells the attempt that the process is to end soon.
    """
    if stop.parent is None or threading.current_thread() is not threading.main_thread():
        return
    leaving.ask, leaving.pid = ask, os.getpid()
    leaving.handler = signal.signal(signal.SIGTERM, _on_signal)


def forget() -> None:
    """Let SIGTERM end this process at once again: the attempt has ended. If it came before, the alarm ends it soon."""
    if leaving.ask:
        leaving.ask = None
        signal.signal(signal.SIGTERM, leaving.handler or signal.SIG_DFL)


def now() -> None:
    """End this process, as SIGTERM would have."""
    signal.signal(signal.SIGTERM, leaving.handler or signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _on_signal(number: int, frame: FrameType | None) -> None:
    is_fork = os.getpid() != leaving.pid  # it has nothing to write
    if leaving.ask is None or leaving.asked or is_fork:
        now()
        return
    leaving.asked = True
    leaving.ask()
    signal.signal(signal.SIGALRM, lambda _, __: now())
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
