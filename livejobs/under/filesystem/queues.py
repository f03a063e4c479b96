"""A queue as a folder: each message is a file, and the names in order are the messages in order.

A name is `<time of sending>-<time of expiry>-<random>.msg`, in nanoseconds since 1970; the second is 0 for a message
that does not expire. Order and expiry are thus known without opening a file.
"""

import math
import os
import time
import uuid
from collections import deque
from contextlib import suppress
from urllib.parse import quote

from livejobs.under.filesystem.rejected import reject

#: Suffixes: the folder of a queue, a message, a message that is being written.
QUEUE, MESSAGE, PART = ".queue", ".msg", ".part"
#: Seconds after which a folder is listed again although listed messages are left: older ones may have been put back.
LISTED_FOR = 1.0


def queue_folder(data_folder: str, queue: str) -> str:
    """Return the folder of a queue."""
    return f"{data_folder}/{quote(queue, safe='@')}{QUEUE}"


def write(text: str, folder: str, aside: str, lifetime: float | None) -> None:
    """Add a message to a queue, atomically.

    Args:
        text: the message.
        folder: of the queue.
        aside: the folder where it is written first, on the same file system.
        lifetime: seconds until it expires; None if it does not.

    Raises:
        OSError: the file cannot be written. No part of it is left.
    """
    now = time.time_ns()
    expiry = 0 if lifetime is None else now + int(lifetime * 1e9)
    name = f"{now}-{expiry}-{uuid.uuid4().hex}"
    part = f"{aside}/{name}{PART}"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        move(part, f"{folder}/{name}{MESSAGE}")
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


def move(source: str, target: str) -> None:
    """Move a file, and create the target's folder if it is missing.

    Raises:
        FileNotFoundError: the file is missing: another process has moved it, for instance.
        OSError: the file cannot be moved.
    """
    try:
        os.rename(source, target)
    except FileNotFoundError:
        if not os.path.lexists(source):
            raise
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(source, target)


def names(folder: str) -> list[str]:
    """Return the names of the messages in a queue's folder, the oldest first."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(MESSAGE))
    except FileNotFoundError:
        return []


def purge(folder: str) -> int:
    """Delete a queue's messages and its folder. Returns how many messages were deleted."""
    count = 0
    for name in names(folder):
        path = f"{folder}/{name}"
        try:
            os.unlink(path)
            count += 1
        except FileNotFoundError:
            continue  # another process has taken it
        except (PermissionError, IsADirectoryError):
            reject(path, os.path.dirname(folder))
    with suppress(OSError):  # it is missing, or contains new messages
        os.rmdir(folder)
    return count


class QueueFolder:
    """Takes messages from a queue; the folder is listed once for many messages.

    Args:
        path: the folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: deque[str] = deque()
        self.listed = -math.inf
        self.stuck: set[str] = set()  # files that can be neither taken nor rejected

    def take(self, into: str) -> str | None:
        """Move the oldest message that has not expired.

        Args:
            into: the folder to move it to.

        Returns:
            The message's new path; None if the queue is empty.

        Raises:
            OSError: no message can be taken: the disk is read-only, for instance.
        """
        if time.monotonic() > self.listed + LISTED_FOR:
            self._list()
        path = self._take_listed(into)
        if path is None:
            self._list()
            path = self._take_listed(into)
        return path

    def list_again(self) -> None:
        """List the folder before the next message is taken: an older one was put back."""
        self.listed = -math.inf

    def _list(self) -> None:
        found = names(self.path)
        if found and not os.access(self.path, os.W_OK):
            raise PermissionError(f"Messages cannot be taken from {self.path}")
        self.stuck.intersection_update(found)
        self.names = deque(name for name in found if name not in self.stuck)
        self.listed = time.monotonic()

    def _take_listed(self, into: str) -> str | None:
        while self.names:
            name = self.names.popleft()
            path = f"{self.path}/{name}"
            try:
                if _expired(name):
                    os.unlink(path)
                else:
                    move(path, f"{into}/{name}")
                    return f"{into}/{name}"
            except FileNotFoundError:
                continue  # another process has taken it
            except (ValueError, PermissionError, IsADirectoryError):
                if not reject(path, os.path.dirname(self.path)):
                    self.stuck.add(name)
        return None


def _expired(name: str) -> bool:
    _, expiry, _ = name.split("-")
    return 0 < int(expiry) < time.time_ns()
