"""The secret key of a deployment that is given none."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from django.core.management.utils import get_random_secret_key


def own_secret_key(folder: Path) -> str:
    """Return this deployment's own secret key, made on first use and kept in a folder.

    Web and worker may start at the same moment: the first to link its file in wins, and both read that one.

    Args:
        folder: what the deployment writes.
    """
    path = folder / "secret_key"
    if not path.exists():
        handle, mine = tempfile.mkstemp(dir=folder)
        with open(handle, "w") as file:
            file.write(get_random_secret_key())
        with suppress(FileExistsError):
            os.link(mine, path)
        os.unlink(mine)
    return path.read_text()
