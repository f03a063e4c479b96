"""Which pages may open a socket: this site's own."""

import logging
from typing import Any
from urllib.parse import ParseResult

from channels.security.websocket import OriginValidator
from django.conf import settings

logger = logging.getLogger(__name__)


class SiteOriginValidator(OriginValidator):
    """Refuses sockets from pages of other sites, and says so in the log.

    A browser always sends `Origin`. A client without one is no browser, so it carries its own cookies alone.
    """

    def __init__(self, application: Any) -> None:
        super().__init__(application, _allowed_hosts())

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Tell whether a socket with this origin is let in."""
        if parsed_origin is None or super().valid_origin(parsed_origin):
            return True
        logger.warning(
            "Refused a socket from %s: its host is not in ALLOWED_HOSTS (%s)",
            parsed_origin.geturl(),
            ", ".join(self.allowed_origins),
        )
        return False


def _allowed_hosts() -> list[str]:
    """Return ALLOWED_HOSTS as Django reads it: with DEBUG, an empty list allows this machine."""
    if settings.DEBUG and not settings.ALLOWED_HOSTS:
        return [".localhost", "127.0.0.1", "[::1]"]
    return list(settings.ALLOWED_HOSTS)
