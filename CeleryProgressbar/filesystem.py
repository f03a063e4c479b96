"""kombu's filesystem transport, mended: messages appear whole, keep their order, and outlive whoever has taken them.

kombu 5.7 writes a message under its final name, so that a reader may take it while it is still empty, and loses
it; it names messages by the millisecond, so that those of the same millisecond come out in any order; and it deletes
a message when it is taken, so that what a killed process had taken is lost.

Here a message that is taken moves into a folder of the process, and is deleted once it is acknowledged. Each process
holds a lock on its folder: where the lock is free, the process is dead, and what it had taken is `abandoned`.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem, virtual
from kombu.utils.json import dumps, loads


@cache
def folder_of_process(data_folder: Path, pid: int) -> Path:
    """Return the folder of what a process has taken; it stands beside a lock file that the process holds for life.

    Args:
        data_folder: where the messages are.
        pid: this process's, so that a fork has a folder of its own.
    """
    taken = data_folder / "taken"
    taken.mkdir(exist_ok=True)
    folder = taken / f"{pid}-{uuid.uuid4().hex}"
    lock = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder.mkdir()  # last: a folder is there only while its lock is held, or its process is dead
    return folder


class QoS(virtual.QoS):
    """Keeps the files of messages until they are acknowledged."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        super().ack(delivery_tag)
        self.channel.delete(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message up, or back."""
        super().reject(delivery_tag, requeue)
        self.channel.delete(delivery_tag)


class Channel(filesystem.Channel):
    """A channel that moves messages by `rename`, which is atomic (POSIX)."""

    QoS = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.taken: dict[str, Path] = {}  # delivery tag -> where the message is kept
        self.unacknowledged: set[str] = set()  # queues whose messages count as acknowledged when taken

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        path = Path(self.data_folder_out, f"{time.time_ns()}_{uuid.uuid4()}.{queue}.msg")
        aside = path.with_suffix(".part")
        try:
            aside.write_text(dumps(payload))
            aside.rename(path)
        except OSError as problem:
            raise ChannelError(f"Cannot write {path}: {problem}") from problem

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            mine = folder_of_process(folder, os.getpid()) / name
            try:
                (folder / name).rename(mine)
            except FileNotFoundError:
                continue  # another process was quicker
            payload = loads(mine.read_text())
            if queue in self.unacknowledged:
                mine.unlink()
            else:
                self.taken[payload["properties"]["delivery_tag"]] = mine
            return payload
        raise Empty

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> None:
        """Consume from a queue."""
        if no_ack:
            self.unacknowledged.add(queue)
        super().basic_consume(queue, no_ack, *args, **kwargs)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message; with `multiple`, all that were delivered before it too, as AMQP has it."""
        for tag in list(self.qos._delivered) if multiple else [delivery_tag]:
            self.qos.ack(tag)
            if tag == delivery_tag:
                break

    def delete(self, delivery_tag: str) -> None:
        """Delete the file of a message that has been taken, unless it has been given back."""
        path = self.taken.pop(delivery_tag, None)
        if path:
            path.unlink()

    def _restore(self, message: Any) -> None:
        """Give a message back, to its old place."""
        self.put_back(self.taken.pop(message.delivery_tag))

    def abandoned(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the messages that dead processes had taken: each must be deleted, or `put_back`."""
        for folder in Path(self.data_folder_in).glob("taken/*/"):
            with open(folder.with_suffix(".lock"), "a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # it lives
                for path in sorted(folder.iterdir()):
                    yield path, loads(path.read_text())
                folder.rmdir()
                Path(lock.name).unlink()

    def put_back(self, path: Path) -> None:
        """Let another process have a message that has been taken."""
        path.rename(Path(self.data_folder_in, path.name))


class Transport(filesystem.Transport):
    """`filesystem://`, with the channel above."""

    Channel = Channel
