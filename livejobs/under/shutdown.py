"""Celery's shutdown by a signal, done when the worker's event loop rests.

Celery 5.7 does a cold shutdown within its signal handler: it writes to the broker, and waits for the pool. If the
signal comes while the main process writes a frame, then the handler waits for ever for the lock of that frame (py-amqp,
`method_framing.frame_writer`). If it comes while the main process takes a message of a child, then the handler waits
for ever for that message. The worker hangs until it is killed, and its jobs are said to be lost: 3 of 100 shutdowns on
a busy machine did so.

The handlers stay Celery's own. They are called a moment later, from the poll in which the loop waits for something to
do. To remove it: leave out `install`, once Celery only notes the signal in its handler.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from celery.apps import worker as celery_worker
from kombu.utils import eventio

#: The file and the name of the function in which the event loop waits for messages and signals.
POLL = eventio.__file__, "poll"
#: Seconds between two looks whether the loop rests.
LOOK_EVERY = 0.01
#: Seconds after which the handler is called in any case: without a broker, the worker waits elsewhere.
PATIENCE = 1.0


class AtRest:
    """A signal handler that calls another one when the event loop rests.

    Args:
        handler: the other one.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take the signal."""
        self._look(number, frame, time.monotonic() + PATIENCE)

    def _look(self, number: int, frame: FrameType | None, deadline: float) -> None:
        if rests(frame) or time.monotonic() >= deadline:
            self.handler(number, frame)
            return
        signal.signal(signal.SIGALRM, lambda _, frame: self._look(number, frame, deadline))
        signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY)


def rests(frame: FrameType | None) -> bool:
    """Tell whether a signal has interrupted the poll of the event loop.

    Args:
        frame: the innermost one that was interrupted.
    """
    return frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) == POLL


def install() -> None:
    """Let the handlers that Celery sets from now on wait, in workers with an event loop."""
    for name in ("install_worker_term_handler", "install_worker_term_hard_handler", "install_worker_int_handler"):
        if not isinstance(getattr(celery_worker, name), Waiting):
            setattr(celery_worker, name, Waiting(getattr(celery_worker, name)))


class Waiting:
    """Sets a handler as Celery does, and has it wait.

    Args:
        set_handler: Celery's partial function, which knows the signal unless it is told another one.
    """

    def __init__(self, set_handler: Any) -> None:
        self.set_handler = set_handler

    def __call__(self, worker: Any, **options: Any) -> None:
        """Set the handler of a worker."""
        self.set_handler(worker, **options)
        number = signal.Signals[{**self.set_handler.keywords, **options}["sig"]]
        handler = signal.getsignal(number)
        if worker.use_eventloop and callable(handler):
            signal.signal(number, AtRest(handler))
