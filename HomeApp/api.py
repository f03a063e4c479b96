"""The JSON API below /api/: the same jobs as the sockets', for programs, and for pages where sockets are blocked.

Who asks is a user, by a JWT or a session, or an anonymous session's visitor: see request.py. Errors: see problem.py.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.http import FileResponse
from django.middleware.csrf import get_token
from django.views.decorators.cache import never_cache
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view, content_negotiation_class
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.serializers import TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from HomeApp import files, jobs
from HomeApp.hub import hub
from HomeApp.models import Job, State
from HomeApp.owner import owner_of, remember_visitor
from HomeApp.problem import ProblemSerializer
from HomeApp.request import AnyAnswer
from HomeApp.snapshot import Snapshot

NO_FILE = "This job has no file."
FILE_DELETED = "The file has been deleted."


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


class RetrySerializer(serializers.Serializer):
    """A retry, as the schema tells it; the body may be left out."""

    ref = serializers.UUIDField(required=False, allow_null=True, help_text="Your own id of this start: one starts one.")


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
    reported_at = serializers.DateTimeField(allow_null=True, help_text="When the task was last heard of.")
    cancelling = serializers.BooleanField(help_text="The owner has asked for an end that has not come yet.")
    retry_of = serializers.UUIDField(allow_null=True, help_text="The job that this one repeats.")
    partial = serializers.CharField(allow_null=True, help_text="What there is of the result so far.")


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


@async_to_sync
async def publish(job: Job) -> None:
    """Show a job's owner what has become of it; from a thread, as the hub belongs to the event loop."""
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
        publish(job)
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
    return Response(jobs.job_of(_owner(request), task_id).snapshot())


@extend_schema(
    operation_id="jobs_cancel",
    description="Cancel a job that has not ended. One that runs ends within a second or so.",
    request=None,
    responses={200: SnapshotSerializer, **problems(401, 403, 404, 406, 409)},
)
@never_cache
@api_view(["POST"])
def job_cancel(request: Request, task_id: str) -> Response:
    """Cancel a job."""
    job = jobs.cancel(_owner(request), task_id)
    publish(job)
    return Response(job.snapshot())


@extend_schema(
    operation_id="jobs_retry",
    description="Repeat a job that has failed or was cancelled, as a new job. The same ref again repeats it once.",
    request=RetrySerializer,
    responses={
        **dict.fromkeys((200, 201), SnapshotSerializer),
        **problems(400, 401, 403, 404, 406, 409, 413, 415, 429),
    },
)
@never_cache
@api_view(["POST"])
def job_retry(request: Request, task_id: str) -> Response:
    """Repeat a job."""
    asked = request.data if isinstance(request.data, dict) else {}
    job = jobs.retry(_owner(request), task_id, asked.get("ref"))
    if not job.repeated:
        publish(job)
    return Response(job.snapshot(), 200 if job.repeated else 201)


class StreamedFile(FileResponse):
    """A file, sent piece by piece under ASGI too: there, Django 5.2's own reads all of it into memory first."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces; a thread reads them, as a disk may be slow."""
        pieces = iter(self)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece


@extend_schema(
    operation_id="jobs_file",
    description="The file that a job has made. It is deleted after a day.",
    responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **problems(401, 404)},
)
@never_cache
@api_view(["GET"])
@content_negotiation_class(AnyAnswer)
def job_file(request: Request, task_id: str) -> FileResponse:
    """Send the file that a job has made."""
    job = jobs.job_of(_owner(request), task_id)
    try:
        file = files.path_of(str(job.pk)).open("rb") if job.file else None
    except FileNotFoundError:
        file = None
    if file is None:
        made = isinstance(job.result, dict) and "file" in job.result
        raise jobs.Refused("file_deleted", FILE_DELETED) if made else jobs.Refused("no_file", NO_FILE)
    return StreamedFile(file, as_attachment=True, filename=job.file)
