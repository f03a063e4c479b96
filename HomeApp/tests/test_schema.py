"""Schemathesis makes up requests from the schema: no answer may be a failure of ours, and none may be undocumented."""

import hypothesis
import pytest
import schemathesis
from django.contrib.auth import get_user_model
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck
from rest_framework_simplejwt.tokens import RefreshToken
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from livejobs.models import Job

with pytest.MonkeyPatch.context() as patch:
    # The kinds of jobs are loaded by Celery, which runs the system checks; those of Django 6.1 ask the database.
    patch.setenv("CELERY_SKIP_CHECKS", "1")
    schema = schemathesis.openapi.from_wsgi("/api/schema/?format=json", get_wsgi_application())
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]


@pytest.fixture
def job(transactional_db) -> Job:
    user = get_user_model().objects.create_user(username="ada", email="ada@example.org", password="a long secret")
    return Job.objects.create(owner=f"user-{user.pk}", kind="count_primes", title="Primes")


@pytest.fixture
def headers(job) -> dict:
    """A user's JWT."""
    user = get_user_model().objects.get()
    return {"Authorization": f"Bearer {RefreshToken.for_user(user).access_token}"}


def _test_of(operation: schemathesis.schemas.APIOperation):
    @schema.include(path=operation.path, method=operation.method).parametrize()
    @hypothesis.settings(
        max_examples=25,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test(case, job, headers):
        case.call_and_validate(headers=headers, checks=CHECKS)
        case.call_and_validate(checks=CHECKS)
        if "task_id" in case.path_parameters:
            case.path_parameters["task_id"] = str(job.pk)
            case.call_and_validate(headers=headers, checks=CHECKS)

    return test


def _name(label: str) -> str:
    return f"test_whatever_is_asked_the_answer_is_documented[{label}]"


# A function for each operation: all tests of one `parametrize` have the same node id, of which pytest-xdist runs one.
vars().update({_name(found.ok().label): _test_of(found.ok()) for found in schema.get_all_operations()})


def test_each_operation_has_a_test_with_an_id_of_its_own(request):
    documented = {f"{method.upper()} {path}" for path, ways in schema.raw_schema["paths"].items() for method in ways}
    assert len(documented) >= 9
    assert {_name(label) for label in documented} <= globals().keys()
    ids = [item.nodeid for item in request.session.items if item.path == request.path]
    assert len(ids) == len(set(ids))
