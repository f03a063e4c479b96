"""How a request to the API is read: its owner, and its JSON.

A session's cookie is sent by the browser whether its user wants it or not, so with a session every POST needs CSRF's
token too; with a JWT it does not.
"""

import json
from typing import Any, BinaryIO

from django.conf import settings
from django.contrib.auth import get_user
from django.middleware.csrf import get_token
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import APIException, ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from livejobs.owner import owner_of

#: A request's body is at most this many bytes.
BODY_BYTES = 64 * 1024


class TooLarge(APIException):
    """The body of a request is longer than any that could be meant."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"A request has at most {BODY_BYTES} bytes. Send a shorter one."
    default_code = "body_too_large"


class JSONParser(BaseParser):
    """Reads a body of JSON that every database can store: UTF-8, no NaN, no half characters, not endless.

    Source: RFC 8259, sections 8.1 (UTF-8) and 8.2 (half of a surrogate pair is unpredictable).
    """

    media_type = "application/json"

    def parse(self, stream: BinaryIO, media_type: Any = None, parser_context: Any = None) -> Any:
        """Return what the body says.

        Raises:
            TooLarge: it has more than `BODY_BYTES`.
            ParseError: it is not JSON.
        """
        body = stream.read(BODY_BYTES + 1)
        if len(body) > BODY_BYTES:
            raise TooLarge()
        try:
            data = json.loads(body, parse_constant=_no_constant)
            json.dumps(data, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as flaw:
            raise ParseError(f"This is not JSON: {flaw}.", "bad_json") from None
        return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


class AnyAnswer(BaseContentNegotiation):
    """Answers with what there is, whatever `Accept` says: a file has one form. Source: RFC 9110, section 12.5.1."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        """Return the renderer for errors."""
        return renderers[0], renderers[0].media_type


class VisitorAuthentication(SessionAuthentication):
    """The session, a user's or an anonymous one; a request that changes something brings CSRF's token."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        """Return the session's user, if it has one.

        Raises:
            PermissionDenied: a token is needed and not there, or wrong.
        """
        if owner_of(request.session) is None:
            return None
        self.enforce_csrf(request)
        get_token(request)  # the answer's cookie brings the next request's token
        user = get_user(request)
        return (user, None) if user.is_authenticated else None


class VisitorScheme(OpenApiAuthenticationExtension):
    """The session, as the schema tells it."""

    target_class = VisitorAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return where the session is."""
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": f"With it, a POST needs the cookie `{settings.CSRF_COOKIE_NAME}` as `X-CSRFToken`.",
        }
