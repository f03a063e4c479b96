"""Checks the dict `LIVEJOBS`."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from livejobs.conf import DEFAULTS, conf

#: The names of queues and channel groups begin with it. A channel's name has less than 100 characters.
DEPLOYMENT = re.compile(r"[A-Za-z0-9._-]{1,28}")


@register
def settings_are_known(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell of keys in `LIVEJOBS` that the engine does not have, and of values that it cannot use."""
    for name in sorted(getattr(settings, "LIVEJOBS", {}).keys() - DEFAULTS.keys()):
        yield Error(
            f"LIVEJOBS has a key that livejobs does not know: {name!r}.",
            hint=f"Known: {', '.join(DEFAULTS)}.",
            id="livejobs.E002",
        )
    if not DEPLOYMENT.fullmatch(str(conf.DEPLOYMENT)):
        yield Error(
            f'LIVEJOBS["DEPLOYMENT"] cannot begin the name of a channel: {conf.DEPLOYMENT!r}.',
            hint="Give 1 to 28 letters (a-z), digits, periods, underscores or hyphens.",
            id="livejobs.E003",
        )
    if conf.TOKENS:
        try:
            import_module(conf.TOKENS)
        except ImportError as problem:
            yield Error(
                f'LIVEJOBS["TOKENS"] names a module that cannot be imported: {problem}.',
                hint='Install livejobs[jwt], or set LIVEJOBS["TOKENS"] to None: then sockets take no tokens.',
                id="livejobs.E004",
            )
