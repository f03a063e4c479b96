"""The engine's settings: the dict `LIVEJOBS` in the project's settings. Each key has a default."""

from typing import Any

from django.conf import settings

#: Each key, and its value unless the project gives another one.
DEFAULTS: dict[str, Any] = {
    #: What the names of queues, channel groups and cache keys begin with: 1 to 28 letters, digits, periods, underscores
    #: or hyphens. Deployments that share a broker or a Redis database need different ones.
    "DEPLOYMENT": "livejobs",
    #: The most jobs that an owner may have waiting or running.
    "UNFINISHED_PER_OWNER": 5,
    #: How many finished jobs are shown on connecting.
    "RECENT": 10,
    #: The most sockets that an owner may have open in one web process.
    "SOCKETS_PER_OWNER": 20,
    #: The folder of the files that jobs make, a `pathlib.Path`. All web processes and workers share it.
    "FILES_DIR": None,
    #: The storage of files that jobs are started with, by its name in Django's STORAGES; None: a folder in FILES_DIR.
    "UPLOADS": None,
    #: The most MiB (1,048,576 bytes) that such a file may have.
    "UPLOAD_MIB": 20,
    #: Hours for which a job's file is kept after the end.
    "FILES_KEEP_HOURS": 24,
    #: Days for which a job is kept after its end, if `manage.py prune_jobs` or a periodic task runs; None: for ever.
    "KEEP_DAYS": 30,
    #: The module that reads the tokens which sockets bring; see livejobs/api/tokens.py. None: no token is valid.
    "TOKENS": None,
}


class Conf:
    """The settings as attributes. They are read each time, so that `override_settings` works."""

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"LIVEJOBS has no key {name!r}.")
        return getattr(settings, "LIVEJOBS", {}).get(name, DEFAULTS[name])


conf = Conf()
