"""kombu's filesystem transport, repaired: messages are atomic, ordered, acknowledged, and redelivered after a crash.

kombu 5.7 writes a message under its final name, so that a reader can take it while it is empty, and lose it. It names
messages by the millisecond, so that messages of the same millisecond change their order. It lists the whole folder for
each message. It deletes a message when it is taken, so that a killed process loses it. It ignores `expiration`.

    <data folder>/<queue>.queue/<message>.msg                       waiting messages (queues.py)
    <data folder>/processes/<process>/<queue>.queue/<message>.msg   unacknowledged messages (processes.py)
    <data folder>/rejected/                                         files that are not messages (rejected.py)
    <control folder>/<exchange>.bindings/<binding>                  bindings of queues (exchanges.py)
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem, virtual
from kombu.transport.filesystem import exchange_queue_t
from kombu.utils.json import dumps, loads

from livejobs.under.filesystem import exchanges
from livejobs.under.filesystem.processes import dead_process_folders, process_folder, remove
from livejobs.under.filesystem.queues import QUEUE, QueueFolder, move, names, purge, queue_folder, write
from livejobs.under.filesystem.rejected import reject


class QoS(virtual.QoS):
    """Keeps the file of each message until the message is acknowledged."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        super().ack(delivery_tag)
        self.channel.delete(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop a message, or put it back into its queue."""
        super().reject(delivery_tag, requeue)
        if not requeue:
            self.channel.delete(delivery_tag)


class Channel(filesystem.Channel):
    """A channel that moves messages by `rename`, which is atomic (POSIX)."""

    QoS = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data_folder_in, self.data_folder_out = str(self.data_folder_in), str(self.data_folder_out)
        self.taken: dict[str, str] = self.connection.taken
        self.waiting: dict[str, QueueFolder] = {}  # folder of a queue -> its messages as listed last
        self.temporary: set[str] = set()  # queues whose bindings end with this process

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Write a message.

        Raises:
            ChannelError: the file cannot be written: the disk is full, for instance.
        """
        expiration = payload["properties"].get("expiration")
        lifetime = None if expiration is None else int(expiration) / 1000  # AMQP: milliseconds, as text
        folder = queue_folder(self.data_folder_out, queue)
        try:
            write(dumps(payload), folder, process_folder(self.data_folder_out), lifetime)
        except OSError as problem:
            raise ChannelError(f"Cannot write a message into {folder}: {problem}") from problem

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        """Take the oldest message that can be read.

        Raises:
            Empty: there is none.
        """
        folder = queue_folder(self.data_folder_in, queue)
        if folder not in self.waiting:
            self.waiting[folder] = QueueFolder(folder)
        mine = f"{process_folder(self.data_folder_in)}/{os.path.basename(folder)}"
        while path := self.waiting[folder].take(mine):
            try:
                payload = self._read(path)
            except Exception as problem:
                if _is_outage(problem):
                    self._put_back(path)
                    raise
                reject(path, self.data_folder_in)
            else:
                self.taken[payload["properties"]["delivery_tag"]] = path
                return payload
        raise Empty

    def _read(self, path: str) -> dict[str, Any]:
        """Read a message, and check all fields that kombu and Celery use without a check of their own.

        The delivery tag is new: a copy of a message in another queue, or an earlier delivery, has another one.
        """
        if not os.path.isfile(path):  # opening a named pipe would block
            raise ValueError("not a regular file")
        with open(path, "rb") as file:
            payload: dict[str, Any] = loads(file.read())
        properties = payload["properties"]
        properties["delivery_tag"] = self._next_delivery_tag()
        if not isinstance(payload["headers"], dict) or not isinstance(properties["delivery_info"], dict):
            raise TypeError("headers and delivery_info must be objects")
        self.Message(payload, channel=self)
        return payload

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], None], consumer_tag: str, **kwargs: Any
    ) -> None:
        """Consume from a queue; with `no_ack`, a message counts as acknowledged when it is delivered."""

        def acknowledged(message: Any) -> None:
            self.delete(message.delivery_tag)
            callback(message)

        super().basic_consume(queue, no_ack, acknowledged if no_ack else callback, consumer_tag, **kwargs)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return the next message, or None; with `no_ack`, it counts as acknowledged."""
        message = super().basic_get(queue, no_ack, **kwargs)
        if message and no_ack:
            self.delete(message.delivery_tag)
        return message

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message; with `multiple`, all that were delivered before it too, as in AMQP."""
        for tag in list(self.qos._delivered) if multiple else [delivery_tag]:
            self.qos.ack(tag)
            if tag == delivery_tag:
                break

    def delete(self, delivery_tag: str) -> None:
        """Delete the file of a message that was taken, unless the message was put back."""
        path = self.taken.pop(delivery_tag, None)
        if path:
            with suppress(FileNotFoundError):  # the data folder was emptied
                os.unlink(path)

    def _restore(self, message: Any) -> None:
        """Put a message back into its queue, at its old place."""
        self._put_back(self.taken.pop(message.delivery_tag))

    def _put_back(self, path: str) -> None:
        folder = f"{self.data_folder_in}/{os.path.basename(os.path.dirname(path))}"
        move(path, f"{folder}/{os.path.basename(path)}")
        if folder in self.waiting:
            self.waiting[folder].list_again()

    def restore_abandoned(self) -> int:
        """Put back the unacknowledged messages of dead processes, and remove their folders, bindings and queues.

        A message, or a process's folder, for which this fails is rejected, and the next one is handled.

        Returns:
            How many messages were put back.
        """
        restored = 0
        for folder in dead_process_folders(self.data_folder_in):
            for path in sorted(folder.glob(f"*{QUEUE}/*")):
                try:
                    self._put_back(str(path))
                    restored += 1
                except Exception:
                    reject(str(path), self.data_folder_in)
            try:
                for queue in exchanges.unbind_process(self.control_folder, folder.name):
                    purge(queue_folder(self.data_folder_in, queue))
                remove(folder)
            except Exception:
                reject(str(folder), self.data_folder_in)
        return restored

    def _size(self, queue: str) -> int:
        return len(names(queue_folder(self.data_folder_in, queue)))

    def _purge(self, queue: str) -> int:
        return purge(queue_folder(self.data_folder_in, queue))

    def _new_queue(self, queue: str, auto_delete: bool = False, **kwargs: Any) -> None:
        if auto_delete:
            self.temporary.add(queue)

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any) -> None:
        self._purge(queue)
        exchanges.unbind(self._bindings(exchange), _binding(routing_key, pattern, queue))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        folder = self._bindings(exchange)
        process = os.path.basename(process_folder(self.data_folder_in)) if queue in self.temporary else ""
        try:
            exchanges.bind(folder, _binding(routing_key, pattern, queue), process)
        except OSError as problem:
            raise ChannelError(f"Cannot write a binding into {folder}: {problem}") from problem

    def get_table(self, exchange: str) -> list[exchange_queue_t]:
        """Return the bindings of an exchange."""
        return exchanges.bindings(self._bindings(exchange))

    def _bindings(self, exchange: str) -> Path:
        """Return the folder of an exchange.

        Raises:
            ChannelError: the exchange's name is not allowed in a file name.
        """
        file: Path = self._exchange_file(exchange)
        return file.with_suffix(exchanges.BINDINGS)


class Transport(filesystem.Transport):
    """`filesystem://`, with the channel above, for a worker's event loop.

    Without an event loop, the children of a worker's pool share one pipe and its lock. A child that is killed while it
    waits for a task holds that lock for ever, and the worker takes no more tasks.
    """

    Channel = Channel
    implements = filesystem.Transport.implements.extend(asynchronous=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Delivery tag -> file of an unacknowledged message. All channels share it: if a message has no consumer any
        #: more, kombu requeues it through the first channel, which need not be the channel that took it.
        self.taken: dict[str, str] = {}

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Look for messages from a worker's event loop, as often as a consumer without one does.

        Args:
            connection: this transport; not used.
            loop: kombu's event loop.
        """
        loop.call_repeatedly(self.polling_interval, self._deliver_waiting)

    def _deliver_waiting(self) -> None:
        with suppress(Empty):
            while True:
                self.cycle.get(self._deliver)  # type: ignore[union-attr]  # kombu begins with None


def _binding(routing_key: str | None, pattern: str | None, queue: str | None) -> exchange_queue_t:
    return exchange_queue_t(routing_key or "", pattern or "", queue or "")


def _is_outage(problem: Exception) -> bool:
    """Tell whether the system, and not the file, is why a message cannot be read: too many open files, for instance."""
    return isinstance(problem, OSError | MemoryError) and not isinstance(problem, PermissionError | FileNotFoundError)
