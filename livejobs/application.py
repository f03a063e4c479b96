"""An ASGI application with the engine beside it: its sockets, its hub and its relay.

`livejobs.asgi(get_asgi_application())` names this module before Django is set up. So the functions import what needs
Django's apps.
"""

from collections.abc import Sequence
from typing import Any

from channels.routing import URLRouter
from channels.sessions import CookieMiddleware
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler


def sockets(patterns: Sequence[Any]) -> Any:
    """Return the ASGI application of sockets, which only pages of the site itself may open.

    Args:
        patterns: their addresses.
    """
    from livejobs.origin import SiteOriginValidator

    return SiteOriginValidator(CookieMiddleware(URLRouter(patterns)))


def asgi(application: Any, patterns: Sequence[Any] | None = None) -> Any:
    """Return an application that also has the sockets of the engine, and runs hub and relay in its process.

    All other requests and sockets go to the application. If that is Django itself, which has no sockets, then other
    sockets are closed with 4404.

    Args:
        application: the ASGI application of the project, for example `get_asgi_application()`.
        patterns: the addresses of the sockets, if the project has consumers of its own; those of `livejobs.routing`
            unless given.
    """
    from livejobs.consumers import NoSuchSocket
    from livejobs.lifespan import RelayMiddleware
    from livejobs.routing import websocket_urlpatterns

    patterns = websocket_urlpatterns if patterns is None else patterns
    ours = sockets(patterns)
    others = NoSuchSocket.as_asgi() if isinstance(application, ASGIHandler) else application

    async def route(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await application(scope, receive, send)
        elif any(one.pattern.match(path := _path(scope)) for one in patterns):
            await ours({**scope, "path_remaining": path}, receive, send)
        else:
            await others(scope, receive, send)

    return RelayMiddleware(route)


def _path(scope: Any) -> str:
    """Return the path below the site's own, without the first slash, as Django's patterns have it.

    Source: Django's `ASGIRequest`, for which FORCE_SCRIPT_NAME outranks the server's `root_path`.
    """
    prefix = settings.FORCE_SCRIPT_NAME or scope.get("root_path", "")
    return str(scope["path"]).removeprefix(prefix).lstrip("/")
