"""The one shape of every error below /api/.

    {"code": "bad_params", "detail": "below: …", "field": "below", "fields": {"below": ["below: …"]}}

`code` is for programs, `detail` is a sentence for people, `field` the first field that is wrong (or null), `fields`
what is wrong with each. The sockets' error frames use the same words.
"""

from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.defaults import server_error
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.response import Response
from rest_framework.views import exception_handler as plain_exception_handler

from livejobs.jobs import Refused

#: The status of a refusal; 400 where there is none.
STATUS = {
    "signed_out": 401,
    "forbidden": 403,
    "not_found": 404,
    "no_file": 404,
    "file_deleted": 404,
    "already_ended": 409,
    "not_to_be_repeated": 409,
    "too_many_jobs": 429,
    "storage_away": 503,
}
NO_ADDRESS = "There is nothing at this address. All addresses end with a slash; /api/docs/ lists them."
BAD_FORM = "This form is too large: {}."
UNANSWERED = "Something went wrong here. It has been noted in the site's log."


class ProblemSerializer(serializers.Serializer):
    """An error, as the schema tells it."""

    code = serializers.CharField(help_text="The reason as one word, for programs.")
    detail = serializers.CharField(help_text="The reason and the remedy as a sentence, for people.")
    field = serializers.CharField(allow_null=True, help_text="The first field that is wrong, if it is a field.")
    fields = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), help_text="What is wrong with each field."
    )


def problems(*codes: int) -> dict[int, type[ProblemSerializer]]:
    """Return the schema of errors with these statuses."""
    return dict.fromkeys(codes, ProblemSerializer)


def problem(code: str, detail: str, fields: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Return an error in its one shape."""
    fields = fields or {}
    return {"code": code, "detail": detail, "field": next(iter(fields), None), "fields": fields}


def exception_handler(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an exception of an API view; None for a fault of this site, which becomes a 500."""
    if isinstance(exception, Refused):
        fields = {exception.field: [exception.detail]} if exception.field else {}
        return Response(problem(exception.code, exception.detail, fields), STATUS.get(exception.code, 400))
    if isinstance(exception, SuspiciousOperation):  # Django's limits of a form that was posted
        return Response(problem("body_too_large", BAD_FORM.format(str(exception).rstrip("."))), 413)
    response = plain_exception_handler(exception, context)
    if response is not None:
        response.data = _problem_of(response.data)
    return response


def _problem_of(data: Any) -> dict[str, Any]:
    """Turn what REST framework has to say into the one shape."""
    if isinstance(data, dict) and "detail" in data:
        detail = data["detail"]
        code = data.get("code", detail.code if isinstance(detail, ErrorDetail) else "error")
        return problem(str(code), f"{str(detail).rstrip('.')}.")
    problems = data if isinstance(data, dict) else {"non_field_errors": data}
    whole = _sentences(problems.get("non_field_errors", []))
    fields = {name: _sentences(one) for name, one in problems.items() if name != "non_field_errors"}
    first = [f"{name}: {sentences[0]}" for name, sentences in fields.items()]
    return problem("invalid", (whole + first)[0], fields)


def _sentences(problems: Any) -> list[str]:
    if isinstance(problems, dict):
        problems = problems.values()
    if isinstance(problems, str):
        return [str(problems)]
    return [sentence for one in problems for sentence in _sentences(one)]


def no_address(request: HttpRequest) -> HttpResponse:
    """Answer for every address below /api/ where nothing is."""
    return JsonResponse(problem("not_found", NO_ADDRESS), status=404)


def handler500(request: HttpRequest) -> HttpResponse:
    """Answer where a view has failed: below /api/ in the one shape, elsewhere as Django does."""
    if request.path.startswith("/api/"):
        return JsonResponse(problem("internal", UNANSWERED), status=500)
    return server_error(request)
