"""What one hub writes to the others over the channel layer.

A message is a dict, which only hubs of the same `VERSION` read:

    type        `TYPE`, as Channels wants one
    version     `VERSION`
    from        the id of the sender, a new one each time that its hub opens
    number      1, 2, 3, ... of this sender
    snapshots   of each the fields of `Snapshot`, as a list
    calls       of each its name and its arguments, which are texts
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from livejobs.snapshot import Snapshot

TYPE, VERSION = "hubs", 1
Part = TypeVar("Part")

#: What reading raises for a message that is wrong; and a channel layer, for one that it cannot write or read.
UNREADABLE = (TypeError, ValueError, OverflowError)


class Call(NamedTuple):
    """A call of a method of the other hubs."""

    name: str
    arguments: tuple[str, ...]


class Message(NamedTuple):
    """A message from one hub to the others."""

    sender: str
    number: int
    snapshots: list[Snapshot]
    calls: list[Call]

    def as_dict(self) -> dict[str, Any]:
        """Return the message as it is written."""
        return {
            "type": TYPE,
            "version": VERSION,
            "from": self.sender,
            "number": self.number,
            "snapshots": [list(snapshot) for snapshot in self.snapshots],
            "calls": [[name, list(arguments)] for name, arguments in self.calls],
        }

    @classmethod
    def read(cls, message: Any, ignore: Callable[[str, Any], None]) -> "Message | None":
        """Return what can be read of a message, each part by itself.

        Args:
            message: anything at all; another version of this code may have sent it.
            ignore: called for what cannot be read, with its sort and itself.

        Returns:
            None if it is no message of this version.
        """
        if not isinstance(message, dict) or message.get("version") != VERSION:
            ignore("message of another version", message)
            return None
        sender, number, snapshots, calls = (message.get(part) for part in ("from", "number", "snapshots", "calls"))
        if not (type(sender) is str and type(number) is int and type(snapshots) is list and type(calls) is list):
            ignore("malformed message", message)
            return None
        return cls(
            sender,
            number,
            _read_each(Snapshot.read, snapshots, partial(ignore, "malformed snapshot")),
            _read_each(_read_call, calls, partial(ignore, "malformed call")),
        )


def _read_each(read: Callable[[Any], Part], parts: Iterable[Any], ignore: Callable[[Any], None]) -> list[Part]:
    good = []
    for part in parts:
        try:
            good.append(read(part))
        except UNREADABLE:
            ignore(part)
    return good


def _read_call(call: Any) -> Call:
    name, arguments = call
    if not all(type(text) is str for text in (name, *arguments)):
        raise TypeError("a call's name and arguments are texts")
    return Call(name, tuple(arguments))
