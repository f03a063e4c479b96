"""kombu's filesystem transport, mended: messages appear whole, keep their order, and are acknowledged as AMQP has it.

kombu 5.7 writes a message under its final name, so that a reader may take it while it is still empty, and loses
it; and it names messages by the millisecond, so that those of the same millisecond come out in any order.
"""

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A channel that writes a message aside and then renames it, as POSIX `rename` is atomic."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        path = Path(self.data_folder_out, f"{time.time_ns()}_{uuid.uuid4()}.{queue}.msg")
        aside = path.with_suffix(".part")
        try:
            aside.write_text(dumps(payload))
            aside.rename(path)
        except OSError as problem:
            raise ChannelError(f"Cannot write {path}: {problem}") from problem

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message; with `multiple`, all that were delivered before it too, as AMQP has it."""
        for tag in list(self.qos._delivered) if multiple else [delivery_tag]:
            self.qos.ack(tag)
            if tag == delivery_tag:
                break


class Transport(filesystem.Transport):
    """`filesystem://`, with the channel above."""

    Channel = Channel
