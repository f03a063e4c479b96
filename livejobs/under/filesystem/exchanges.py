"""An exchange as a folder: each binding is an empty file, and its name contains all fields.

kombu rewrites one file for each exchange: a reader can find it empty, and a binding of a dead worker is never removed.
Here the binding of a temporary queue contains the process that made it, and is removed after that process has died.

A name is `<routing key>,<pattern>,<queue>,<process>`, URL-quoted; the process is empty for a permanent binding.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

from kombu.transport.filesystem import exchange_queue_t

#: Suffix of the folder of an exchange.
BINDINGS = ".bindings"


def bind(folder: Path, binding: exchange_queue_t, process: str) -> None:
    """Add a binding; idempotent.

    Args:
        folder: of the exchange.
        binding: routing key, pattern and queue.
        process: the process after whose death the binding is removed; empty for a permanent binding.

    Raises:
        OSError: the file cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ",".join(quote(part, safe="@") for part in (*binding, process))).touch()


def bindings(folder: Path) -> list[exchange_queue_t]:
    """Return the bindings of an exchange, each once."""
    return list(dict.fromkeys(binding for _, binding, _ in _read(folder)))


def unbind(folder: Path, binding: exchange_queue_t) -> None:
    """Remove a binding of any process."""
    for path, other, _ in _read(folder):
        if other == binding:
            path.unlink(missing_ok=True)


def unbind_process(control_folder: Path, process: str) -> set[str]:
    """Remove the bindings of a dead process.

    Returns:
        The queues that have no binding left.
    """
    unbound, bound = set(), set()
    for folder in control_folder.glob(f"*{BINDINGS}"):
        for path, binding, owner in _read(folder):
            if owner == process:
                path.unlink(missing_ok=True)
                unbound.add(binding.queue)
            else:
                bound.add(binding.queue)
    return unbound - bound


def _read(folder: Path) -> Iterator[tuple[Path, exchange_queue_t, str]]:
    with suppress(FileNotFoundError):  # nothing is bound
        for name in os.listdir(folder):
            parts = [unquote(part) for part in name.split(",")]
            if len(parts) == 4:
                yield folder / name, exchange_queue_t(*parts[:3]), parts[3]
