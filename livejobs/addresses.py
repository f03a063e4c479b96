"""Addresses of this site: the same in a request, in the relay's thread and in a command."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.urls import NoReverseMatch, reverse, set_script_prefix


def address(names: Sequence[str], *args: Any) -> str | None:
    """Return the address of the first view that the project has; None if it has none of them.

    Args:
        names: of the views, as `reverse` takes them.
        *args: of the address.
    """
    if settings.FORCE_SCRIPT_NAME:
        # Django sets the prefix in requests and in the main thread only.
        set_script_prefix(settings.FORCE_SCRIPT_NAME)
    for name in names:
        try:
            return reverse(name, args=args)
        except NoReverseMatch:
            continue
    return None
