"""The JSON API below /api/: the same jobs as the sockets', for programs, and for pages where sockets are blocked.

Who asks is a user, by a JWT or a session, or an anonymous session's visitor: see request.py. Errors: see problem.py.
"""

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.middleware.csrf import get_token
from django.views.decorators.cache import never_cache
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.serializers import TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from HomeApp import jobs
from HomeApp.hub import Snapshot, hub
from HomeApp.models import Job, State
from HomeApp.owner import owner_of, remember_visitor
from HomeApp.problem import ProblemSerializer

NO_JOB = "You have no such job."


def problems(*codes: int) -> dict[int, type[ProblemSerializer]]:
    """Return the schema of errors with these statuses."""
    return dict.fromkeys(codes, ProblemSerializer)


class RefreshSerializer(TokenRefreshSerializer):
    """A refresh token for new ones; it is worth nothing where its user is no more."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """Return the new tokens."""
        try:
            return super().validate(attrs)
        except get_user_model().DoesNotExist:
            raise InvalidToken() from None


@extend_schema(responses={200: TokenObtainPairView().get_serializer_class(), **problems(400, 401, 413, 415)})
class TokenView(TokenObtainPairView):
    """A user's name and password for two tokens: `access` for requests, `refresh` for the next two."""


@extend_schema(responses={200: RefreshSerializer, **problems(400, 401, 413, 415)})
class RefreshView(TokenRefreshView):
    """A refresh token for two new tokens. It can be used once."""

    serializer_class = RefreshSerializer


class StartSerializer(serializers.Serializer):
    """A start, as the schema tells it; what is checked, and how, is in jobs.py."""

    kind = serializers.ChoiceField([], help_text="The task's short name.")
    params = serializers.DictField(required=False, help_text="What the kind's form asks for; all have defaults.")
    ref = serializers.UUIDField(required=False, allow_null=True, help_text="Your own id of this start: one starts one.")

    def get_fields(self) -> dict[str, Any]:
        """Return the fields, with the kinds that there are."""
        fields = super().get_fields()
        fields["kind"].choices = jobs.startable()
        return fields


class SnapshotSerializer(serializers.Serializer):
    """A job's snapshot, as the schema tells it; it is made by `Job.snapshot`."""

    type = serializers.ChoiceField(["job"])
    task_id = serializers.UUIDField()
    ref = serializers.UUIDField()
    kind = serializers.CharField()
    title = serializers.CharField()
    state = serializers.ChoiceField(State.values)
    current = serializers.FloatField(allow_null=True)
    total = serializers.FloatField(allow_null=True)
    percent = serializers.FloatField(allow_null=True, min_value=0, max_value=100)
    description = serializers.CharField(allow_blank=True)
    seq = serializers.IntegerField(min_value=0, max_value=2**63 - 1)
    attempt = serializers.IntegerField(min_value=0)
    result = serializers.JSONField(allow_null=True, help_text="What the task has returned.")
    error = serializers.CharField(allow_null=True, help_text="A sentence for people.")
    url = serializers.CharField(allow_null=True, help_text="The job's file, while it is there.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class SnapshotPageSerializer(serializers.Serializer):
    """A page of snapshots, as the schema tells it."""

    count = serializers.IntegerField(help_text="How many there are on all pages.")
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = SnapshotSerializer(many=True)


class SnapshotPages(PageNumberPagination):
    """Pages of snapshots: `?page=2`."""

    page_size = 50


def _owner(request: Request) -> str | None:
    """Return who asks, by JWT or session; None where that is nobody yet."""
    return f"user-{request.user.pk}" if request.user.is_authenticated else owner_of(request.session)


def _job(request: Request, task_id: str) -> Job:
    """Return a job of whoever asks; of all others it is as if they were not there."""
    try:
        return Job.objects.get(owner=_owner(request), pk=task_id)
    except (Job.DoesNotExist, ValidationError):  # ValidationError: it is no UUID
        raise jobs.Refused("not_found", NO_JOB) from None


@async_to_sync
async def _publish(job: Job) -> None:
    hub.publish([Snapshot.of(job)])


@extend_schema(
    methods=["GET"],
    operation_id="jobs_list",
    description="My jobs, the newest first, 50 a page.",
    parameters=[OpenApiParameter("page", int)],
    responses={200: SnapshotPageSerializer, **problems(401, 404, 406)},
)
@extend_schema(
    methods=["POST"],
    operation_id="jobs_start",
    description="Start a job. The same ref again starts nothing and is answered with the job that is there (200).",
    request=StartSerializer,
    responses={
        **dict.fromkeys((200, 201), SnapshotSerializer),
        **problems(400, 401, 403, 406, 413, 415, 429),
    },
)
@never_cache
@api_view(["GET", "POST"])
def job_list(request: Request) -> Response:
    """List or start jobs."""
    if request.method == "POST":
        return _start(request)
    mine = Job.objects.filter(owner=_owner(request)).order_by("-created_at", "pk")
    pages = SnapshotPages()
    return pages.get_paginated_response([job.snapshot() for job in pages.paginate_queryset(mine, request)])


def _start(request: Request) -> Response:
    asked = request.data
    if not isinstance(asked, dict):
        raise jobs.Refused("bad_body", 'Send a JSON object, for example {"kind": "count_primes"}.')
    owner = _owner(request)
    if owner is None:
        owner = remember_visitor(request.session)
        get_token(request._request)  # the next request of this session must bring it
    job = jobs.start(owner, asked.get("kind"), asked.get("params", {}), asked.get("ref"))
    if not job.repeated:
        _publish(job)
    return Response(job.snapshot(), 200 if job.repeated else 201)


@extend_schema(
    operation_id="jobs_read",
    description="A job as it is now: its snapshot, as the sockets send it.",
    responses={200: SnapshotSerializer, **problems(401, 404, 406)},
)
@never_cache
@api_view(["GET"])
def job_detail(request: Request, task_id: str) -> Response:
    """Tell how far a job has come."""
    return Response(_job(request, task_id).snapshot())
