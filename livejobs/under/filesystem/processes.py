"""A folder for each process: its unacknowledged messages, and the messages that it is writing.

The process holds a lock (flock) on a file in its folder until it ends. If the lock is free, the process is dead. A
stopped process (SIGSTOP) keeps its lock.
"""

import fcntl
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

#: Data folder -> this process's folder in it, and the descriptor of the lock.
_mine: dict[str, tuple[str, int]] = {}


def process_folder(data_folder: str) -> str:
    """Return this process's folder. The first call creates it, and so does a call after the data folder was emptied.

    Args:
        data_folder: which contains the folders of all processes.
    """
    folder, lock = _mine.get(data_folder, ("", -1))
    if folder and os.path.exists(folder):
        return folder
    if folder:
        os.close(lock)
    folder, lock = _make(Path(data_folder, "processes"))
    _mine[data_folder] = folder, lock
    return folder


def _make(processes: Path) -> tuple[str, int]:
    folder = processes / f"{os.getpid()}-{uuid.uuid4().hex}"
    new = folder.with_suffix(".new")
    new.mkdir(parents=True)
    lock = os.open(new / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(folder)  # last: another process must not see the folder without a held lock
    return str(folder), lock


def _forget() -> None:
    """Close the parent's locks in a forked child: a lock is free only when all copies of its descriptor are closed."""
    for _, lock in _mine.values():
        os.close(lock)
    _mine.clear()


os.register_at_fork(after_in_child=_forget)


def dead_process_folders(data_folder: str) -> Iterator[Path]:
    """Yield the folders of dead processes; each is locked until the generator goes on.

    Args:
        data_folder: which contains the folders of all processes.
    """
    for folder in Path(data_folder, "processes").glob("*"):
        if folder.suffix == ".new":
            continue
        try:
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            continue  # another process has removed it, or it is not a folder
        except OSError:
            logger.exception("The lock cannot be opened: %s", folder)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        except BlockingIOError:
            continue  # the process is alive
        finally:
            os.close(lock)


def remove(folder: Path) -> None:
    """Remove the folder of a dead process.

    Raises:
        OSError: it contains messages or unknown files.
    """
    for part in folder.glob("*.part"):
        part.unlink()
    for queue in folder.glob("*.queue"):
        queue.rmdir()
    (folder / "lock").unlink()
    folder.rmdir()
