"""Checks that the project's ASGI application has the engine beside it."""

from collections.abc import Iterator
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning

from livejobs.lifespan import RelayMiddleware


@register(Tags.security, deploy=True)
def the_application_has_the_engine(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell if web processes have no hub and no relay.

    Only before a deployment: the application is imported, and a worker, which runs the other checks, need not do that.
    """
    if not getattr(settings, "ASGI_APPLICATION", None):
        return
    try:
        get_default_application()
    except Exception as problem:
        yield CheckWarning(
            f"ASGI_APPLICATION cannot be imported: {problem}", hint="Correct that module.", id="livejobs.W009"
        )
        return
    if not RelayMiddleware.made:
        yield CheckWarning(
            f"{settings.ASGI_APPLICATION} was made without livejobs.asgi: no page is told of its jobs.",
            hint="In that module: application = livejobs.asgi(application).",
            id="livejobs.W009",
        )
