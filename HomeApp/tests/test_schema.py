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

from HomeApp.models import Job

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


@schema.parametrize()
@hypothesis.settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_is_asked_the_answer_is_documented(case, job, headers):
    case.call_and_validate(headers=headers, checks=CHECKS)
    case.call_and_validate(checks=CHECKS)
    if "task_id" in case.path_parameters:
        case.path_parameters["task_id"] = str(job.pk)
        case.call_and_validate(headers=headers, checks=CHECKS)
