"""The JSON API of jobs: the same jobs as on the sockets, for programs, and for pages where sockets are blocked.

The owner is a user, by a JWT or a session, or the visitor of an anonymous session: see request.py. Errors are those of
problem.py.
"""

from typing import Any
from uuid import UUID

from django.http import FileResponse, QueryDict
from django.middleware.csrf import get_token
from django.views.decorators.cache import never_cache
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view, content_negotiation_class, parser_classes
from rest_framework.pagination import PageNumberPagination
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from livejobs import jobs, place
from livejobs.api.problem import problems
from livejobs.api.request import AnyAnswer, JSONParser
from livejobs.download import file_response
from livejobs.models import Job, State
from livejobs.owner import owner_of, remember_visitor
from livejobs.params import params_of_post


class StartFormSerializer(serializers.Serializer):
    """A start by a form, as the schema tells it. What the kind's form asks for are further fields of this one."""

    kind = serializers.ChoiceField([], help_text="The task's short name.")
    ref = serializers.UUIDField(required=False, help_text="Your own id of this start: one starts one.")

    def get_fields(self) -> dict[str, Any]:
        """Return the fields, with the kinds that there are."""
        fields: dict[str, Any] = super().get_fields()
        fields["kind"].choices = jobs.startable()
        return fields


class StartSerializer(StartFormSerializer):
    """A start, as the schema tells it; what is checked, and how, is in jobs.py."""

    params = serializers.DictField(required=False, help_text="What the kind's form asks for; all have defaults.")
    ref = serializers.UUIDField(required=False, allow_null=True, help_text="Your own id of this start: one starts one.")


class RetrySerializer(serializers.Serializer):
    """A retry, as the schema tells it; the body may be left out."""

    ref = serializers.UUIDField(required=False, allow_null=True, help_text="Your own id of this start: one starts one.")


class StageSerializer(serializers.Serializer):
    """A stage of a job, as the schema tells it."""

    index = serializers.IntegerField(min_value=1)
    of = serializers.IntegerField(allow_null=True, help_text="How many there are; null if the task has not said.")
    name = serializers.CharField(allow_blank=True)


class LeftSerializer(serializers.Serializer):
    """How long a job may still take, as the schema tells it."""

    low = serializers.IntegerField(min_value=0, help_text="Seconds.")
    high = serializers.IntegerField(min_value=0, help_text="Seconds.")


class ChildrenSerializer(serializers.Serializer):
    """How the children of a job stand, as the schema tells it."""

    total = serializers.IntegerField(min_value=1)
    succeeded = serializers.IntegerField(min_value=0)
    failed = serializers.IntegerField(min_value=0, help_text="Those that were cancelled or deleted, too.")
    running = serializers.IntegerField(min_value=0)
    failures = serializers.ListField(child=serializers.CharField(), help_text="The titles of the first that failed.")


class TableSerializer(serializers.Serializer):
    """A result as a table of texts, as the schema tells it."""

    head = serializers.ListField(child=serializers.CharField(), allow_null=True, help_text="The names of the columns.")
    rows = serializers.ListField(child=serializers.ListField(child=serializers.CharField(allow_blank=True)))
    more = serializers.CharField(allow_blank=True, help_text="What is left out, in words.")


class FileSerializer(serializers.Serializer):
    """A file of a job, as the schema tells it."""

    name = serializers.CharField()
    url = serializers.CharField()


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
    stage = StageSerializer(allow_null=True, help_text="The present part of the work; the steps are its own.")
    seq = serializers.IntegerField(min_value=0, max_value=2**63 - 1)
    attempt = serializers.IntegerField(min_value=0)
    attempts = serializers.IntegerField(
        allow_null=True, min_value=0, help_text="The most that there may be; null if there is no limit."
    )
    attempt_started_at = serializers.DateTimeField(allow_null=True)
    attempt_reason = serializers.CharField(allow_null=True, help_text="Why this attempt is not the first.")
    resumed_from = serializers.FloatField(allow_null=True, help_text="The percentage at which this attempt went on.")
    left = LeftSerializer(
        allow_null=True,
        help_text="The time until the end, right in 80 % of all moments; until it begins, that of the whole run.",
    )
    place = serializers.IntegerField(allow_null=True, min_value=1, help_text="Of a job that waits; 1 is the next one.")
    workers = serializers.IntegerField(
        allow_null=True, min_value=0, help_text="Of a job that waits: how many workers are alive that take such jobs."
    )
    retry_at = serializers.DateTimeField(allow_null=True, help_text="When the next attempt may begin.")
    result = serializers.JSONField(allow_null=True, help_text="What the task has returned.")
    table = TableSerializer(allow_null=True, help_text="The result, if it is a list or an object without a summary.")
    files = FileSerializer(
        many=True, allow_null=True, help_text="What the job has made; empty once it has been deleted; null if nothing."
    )
    error = serializers.CharField(allow_null=True, help_text="A sentence for people.")
    url = serializers.CharField(allow_null=True, help_text="The job's first file, while it is there.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    reported_at = serializers.DateTimeField(allow_null=True, help_text="When the task was last heard of.")
    cancelling = serializers.BooleanField(help_text="The owner has asked for an end that has not come yet.")
    parent = serializers.UUIDField(allow_null=True, help_text="The job that this one is a part of.")
    children = ChildrenSerializer(allow_null=True, help_text="Of a job that waits for its children.")
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


#: The id of no job.
NO_JOB = UUID(int=0)


def _owner(request: Request) -> str | None:
    """Return the owner, by JWT or session; None if the session has no owner yet."""
    return f"user-{request.user.pk}" if request.user.is_authenticated else owner_of(request.session)


@extend_schema(
    methods=["GET"],
    operation_id="jobs_list",
    description="My jobs, the newest first, 50 a page; without their children, unless those of one job are asked for.",
    parameters=[OpenApiParameter("page", int), OpenApiParameter("parent", UUID)],
    responses={200: SnapshotPageSerializer, **problems(401, 404, 406)},
)
@extend_schema(
    methods=["POST"],
    operation_id="jobs_start",
    description="Start a job. The same ref again starts nothing and is answered with the job that is there (200). "
    "A form with files has the params as further fields; a box that is left out is not ticked.",
    request={"application/json": StartSerializer, "multipart/form-data": StartFormSerializer},
    responses={
        **dict.fromkeys((200, 201), SnapshotSerializer),
        **problems(400, 401, 403, 406, 413, 415, 429, 503),
    },
)
@never_cache
@api_view(["GET", "POST"])
@parser_classes([JSONParser, MultiPartParser])
def job_list(request: Request) -> Response:
    """List or start jobs."""
    if request.method == "POST":
        return _start(request)
    mine = Job.objects.filter(owner=_owner(request), parent=_parent(request)).order_by("-created_at", "pk")
    pages = SnapshotPages()
    shown = pages.paginate_queryset(mine, request)
    place.fill_in(shown)
    return pages.get_paginated_response([job.snapshot() for job in shown])


def _parent(request: Request) -> UUID | None:
    """Return the job whose children are asked for; None if those jobs are that are no children."""
    asked = request.GET.get("parent")
    try:
        return UUID(asked) if asked else None
    except ValueError:
        return NO_JOB


def _start(request: Request) -> Response:
    asked = request.data
    if not isinstance(asked, dict):
        raise jobs.Refused("bad_body", 'Send a JSON object, for example {"kind": "count_primes"}.')
    if _owner(request) is None:
        remember_visitor(request.session)
        get_token(request)  # the next request of this session must bring it
    kind, params = asked.get("kind"), asked.get("params", {})
    if isinstance(asked, QueryDict):  # a form
        params = params_of_post(jobs.kinds()[kind].form, request.POST, request.FILES) if kind in jobs.kinds() else {}
    job = jobs.start(request, kind, params, asked.get("ref"))
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
    job = jobs.job_of(_owner(request), task_id)
    place.fill_in([job])
    return Response(job.snapshot())


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
    return Response(jobs.cancel(_owner(request), task_id).snapshot())


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
    job = jobs.retry(request, task_id, asked.get("ref"))
    return Response(job.snapshot(), 200 if job.repeated else 201)


@extend_schema(
    operation_id="jobs_file",
    description="A file that a job has made. It is deleted after a day.",
    parameters=[OpenApiParameter("name", str, description="Which one of several files; the first one unless given.")],
    responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **problems(401, 404)},
)
@never_cache
@api_view(["GET"])
@content_negotiation_class(AnyAnswer)
def job_file(request: Request, task_id: str) -> FileResponse:
    """Send a file that a job has made."""
    return file_response(jobs.job_of(_owner(request), task_id), request.query_params.get("name", ""))
