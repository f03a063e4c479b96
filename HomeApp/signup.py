"""Signing up: `POST /api/users/` makes a user and starts the job that sends the welcome e-mail.

Signing up needs no authentication, and logs no user in. A request with a session needs CSRF's token, as everywhere
(livejobs/api/request.py). Without a session there is nothing that a page of another site could misuse: this site reads
JSON alone, and a browser sends another site's JSON only if it is allowed to (CORS), which is nowhere here.
"""

import ipaddress
import logging
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import ASCIIUsernameValidator
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.middleware.csrf import get_token
from django.utils.encoding import punycode
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, throttle_classes
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from HomeApp.models import User
from HomeApp.users import EMAIL_TAKEN, NAME_TAKEN
from livejobs import jobs
from livejobs.api.problem import problems
from livejobs.api.request import VisitorAuthentication
from livejobs.models import Job
from livejobs.owner import remember_visitor

logger = logging.getLogger(__name__)


class SignUpSerializer(serializers.ModelSerializer):
    """A sign-up: what it must bring, and the user it makes."""

    class Meta:
        model = User
        fields = ["id", "username", "email", "password"]
        extra_kwargs = {
            "username": {"validators": [ASCIIUsernameValidator()]},
            "email": {"required": True, "allow_blank": False},
            "password": {"write_only": True, "trim_whitespace": False},
        }

    def validate_username(self, username: str) -> str:
        """Refuse a name that is taken, whatever its case."""
        if User.objects.same("username", username).exists():
            raise serializers.ValidationError(NAME_TAKEN)
        return username

    def validate_email(self, email: str) -> str:
        """Return the address in ASCII, as mail servers have it; refuse one that is taken, whatever its case."""
        name, _, domain = email.rpartition("@")
        try:
            email = f"{name}@{punycode(domain).lower()}"
        except UnicodeError:
            name = ""
        if not (name and name.isascii()):
            raise serializers.ValidationError("Enter a valid email address.")
        if User.objects.same("email", email).exists():
            raise serializers.ValidationError(EMAIL_TAKEN)
        return email

    def validate_password(self, password: str) -> str:
        """Ask Django's password validators, who compare it with the name and the address too."""
        said = {name: str(self.initial_data.get(name, "")) for name in ("username", "email")}
        try:
            validate_password(password, User(**said))
        except ValidationError as problem:
            raise serializers.ValidationError(problem.messages) from None
        return password


class SignedUpSerializer(SignUpSerializer):
    """The answer to a sign-up, as the schema tells it."""

    task_id = serializers.UUIDField(help_text="The job that sends the welcome e-mail.")

    class Meta(SignUpSerializer.Meta):
        fields = ["id", "username", "email", "task_id"]


class TooManySignUps(Throttled):
    """An address has signed up too often."""

    default_code = "too_many_signups"
    default_detail = "Too many sign-ups from your address."
    extra_detail_singular = "Try again in {wait} second."
    extra_detail_plural = "Try again in {wait} seconds."


class SignUpThrottle(SimpleRateThrottle):
    """Counts what one address has tried in the last hour, refusals too: they tell which addresses have an account."""

    def get_rate(self) -> str:
        """Return the setting, as REST framework writes rates."""
        return f"{settings.SIGNUPS_PER_ADDRESS}/hour"

    def get_cache_key(self, request: Request, view: Any) -> str:
        """Return whom to count: an IPv4 address, or an IPv6 network, of which each household has a whole one."""
        address = self.get_ident(request) or ""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:  # a proxy's own name for it, or none: over a Unix socket
            return f"signup-{address}"
        return f"signup-{ip if ip.version == 4 else ipaddress.ip_network((ip, 64), strict=False)}"

    def allow_request(self, request: Request, view: Any) -> bool:
        """Tell whether one more is allowed. Nobody is turned away because the count itself is out of reach."""
        try:
            allowed: bool = super().allow_request(request, view)
        except Throttled:
            raise
        except Exception:  # each cache has errors of its own
            logger.exception("Sign-ups are not counted at the moment")
            return True
        return allowed

    def throttle_failure(self) -> bool:
        """Refuse.

        Raises:
            TooManySignUps: always.
        """
        raise TooManySignUps(self.wait())


@extend_schema(
    operation_id="users_create",
    description="Sign up. The answer names the job that sends the welcome e-mail: `ws/task_status/<task_id>/`.",
    request=SignUpSerializer,
    responses={201: SignedUpSerializer, **problems(400, 403, 406, 413, 415, 429)},
)
@api_view(["POST"])
@authentication_classes([VisitorAuthentication])
@throttle_classes([SignUpThrottle])
def user_list(request: Request) -> Response:
    """Sign up: one new user, and one job."""
    serializer = SignUpSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    password = make_password(serializer.validated_data["password"])  # slow, so not while the database is held
    user = User(**{**serializer.validated_data, "password": password})
    owner = remember_visitor(request.session)
    get_token(request._request)  # the next request of this session must bring it
    try:
        job = _save(user, owner)
    except IntegrityError:
        # Somebody has been quicker since the check above, which finds them now, and names the field.
        SignUpSerializer(data=request.data).is_valid(raise_exception=True)
        raise
    return Response({**serializer.to_representation(user), "task_id": str(job.pk)}, 201)


def _save(user: User, owner: str) -> Job:
    """Write the user and the job together: both are there or neither. The task is sent once they are."""
    with transaction.atomic(durable=True):
        user.save(force_insert=True)
        return jobs.start(owner, "welcome_email", {"user_id": user.pk}, by_site=True)
