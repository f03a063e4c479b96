"""Files that cannot be read as messages: they are moved out of their queue, and the newest are kept for inspection."""

import logging
import os
import time
from pathlib import Path
from shutil import rmtree

logger = logging.getLogger(__name__)

#: How many rejected files are kept; older ones are deleted.
KEPT = 100
#: Characters of the old name that are kept: the file system limits the whole name to 255.
NAME = 200


def reject(path: str, data_folder: str) -> bool:
    """Move a file or folder to the rejected ones, and log the exception that is being handled.

    Args:
        path: the file or folder.
        data_folder: contains the folder of rejected files.

    Returns:
        Whether the path is free now.
    """
    logger.exception("Rejected: %s", path)
    folder = Path(data_folder, "rejected")
    try:
        folder.mkdir(exist_ok=True)
        os.rename(path, folder / f"{time.time_ns()}-{os.path.basename(path)[-NAME:]}")
        for old in sorted(folder.iterdir())[:-KEPT]:
            _delete(old)
    except OSError:
        logger.exception("Cannot be moved to %s: %s", folder, path)
    return not os.path.lexists(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)  # another process may delete it at the same time
