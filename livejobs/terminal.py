"""A progress bar in a terminal: `track` draws one outside a worker, and `manage.py job` draws one of a job."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import ClassVar, TextIO, TypeVar

Item = TypeVar("Item")

#: How often a bar is drawn anew, at most.
REDRAWS_PER_SECOND = 10
#: Columns of the bar itself; with less room there is none.
NARROWEST, WIDEST = 10, 40
#: A column of the bar, from empty to full.
BLOCKS, PLAIN_BLOCKS = " ▏▎▍▌▋▊▉█", " #"


class Bar:
    """A progress bar on one line of a terminal. If the stream is no terminal, then nothing is written.

    A bar that is made while another is open takes the other's line, and disappears at its end.

    Args:
        stream: where it is drawn; standard error unless given.
    """

    opened: ClassVar[list["Bar"]] = []
    written: ClassVar[int] = 0  # characters of the line

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.is_terminal = self.stream.isatty()
        self.began = time.monotonic()
        self.drawn_at = self.began - 1 / REDRAWS_PER_SECOND
        self.newest = ""
        if self.is_terminal:
            self.opened.append(self)

    def show(
        self,
        done: float,
        total: float | None,
        description: str = "",
        percent: float | None = None,
        *,
        seconds: float | None = None,
        last: bool = False,
    ) -> None:
        """Draw the bar, unless it was drawn a moment ago.

        Args:
            done: how many steps are done.
            total: how many there are; None while unknown.
            description: what is being done, in words.
            percent: how far all of it has come; `done` of `total` unless given.
            seconds: for how long it has gone on; since the bar was made unless given.
            last: whether it is drawn in any case.
        """
        now = time.monotonic()
        if not self.is_terminal or not (last or now - self.drawn_at >= 1 / REDRAWS_PER_SECOND):
            return
        self.drawn_at = now
        columns = shutil.get_terminal_size().columns - 1
        blocks = BLOCKS if _can_write(self.stream, BLOCKS) else PLAIN_BLOCKS
        passed = now - self.began if seconds is None else seconds
        self._write(line(done, total, description, percent, passed, columns, blocks))

    def close(self) -> None:
        """Leave the line: to the bar that this one is within, or for the next line."""
        if self in self.opened:
            self.opened.remove(self)
            if self.opened:
                self._write("")
            elif Bar.written:
                self.stream.write("\n")
                Bar.written = 0

    def _write(self, text: str) -> None:
        self.stream.write(f"\r{text.ljust(Bar.written)}")
        self.stream.flush()
        Bar.written = len(text)


def track(items: Iterable[Item], total: float | None = None, description: str = "") -> Iterator[Item]:
    """Yield the items, and draw how many are done.

    Args:
        items: what to go through.
        total: how many there are; `len(items)` unless given; unknown where that is not defined either.
        description: what is being done, in words.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar, done = Bar(), 0
    try:
        bar.show(done, total, description)
        for item in items:
            yield item
            done += 1
            bar.show(done, total, description)
    finally:
        bar.show(done, total, description, last=True)
        bar.close()


def line(
    done: float,
    total: float | None,
    description: str,
    percent: float | None,
    seconds: float,
    columns: int,
    blocks: str = BLOCKS,
) -> str:
    """Return a progress bar as text: description, percentage, bar, steps, time passed, time left, steps a second.

    Args:
        done: how many steps are done.
        total: how many there are; None while unknown.
        description: what is being done, in words.
        percent: how far all of it has come; `done` of `total` if None.
        seconds: for how long it has gone on.
        columns: how many characters there may be.
        blocks: how a column of the bar is drawn, from empty to full.
    """
    if percent is None and total:
        percent = min(max(100 * done / total, 0), 100)
    words = printable(description)
    steps = _number(done) if total is None else f"{_number(done)}/{_number(total)}"
    left = f"<{_time(seconds * (100 - percent) / percent)}" if percent else ""
    rate = f", {done / seconds:.{0 if done >= 100 * seconds else 1}f}/s" if seconds > 0 and done else ""
    after = f" {steps} [{_time(seconds)}{left}{rate}]"
    if percent is None:
        return f"{_label(words, columns - len(after))}{after}".strip()[:columns]
    figure = f"{percent:3.0f}%"
    room = max(columns - len(figure) - len(after) - len("||"), 0)
    width = min(room - min(len(_label(words, room)), room // 2), WIDEST)
    if width < NARROWEST:
        return f"{_label(words, room)}{figure}{after}"[:columns]
    return f"{_label(words, room - width)}{figure}|{_bar(percent, width, blocks)}|{after}"


def printable(text: str) -> str:
    """Return text on one line, without the characters that control a terminal: it may be a visitor's.

    Args:
        text: anything.
    """
    return "".join(one for one in " ".join(text.split()) if one.isprintable())


def _label(words: str, columns: int) -> str:
    return f"{words[: max(columns - len(': '), 0)]}: " if words else ""


def _bar(percent: float, width: int, blocks: str) -> str:
    steps = len(blocks) - 1
    full, part = divmod(int(percent / 100 * width * steps), steps)
    return (blocks[-1] * full + (blocks[part] if part else "")).ljust(width)


def _number(value: float) -> str:
    return f"{int(value)}" if value == int(value) else f"{value:.1f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
