"""The pages."""

from django.core.paginator import Paginator
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from HomeApp.exports import may_export_everybody
from HomeApp.forms import ExportJobsForm
from HomeApp.jobs import kinds
from HomeApp.models import Job
from HomeApp.owner import owner_of, remember_visitor

#: Jobs on a page of "my jobs".
JOBS_PER_PAGE = 25


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """START, and the bars."""
    remember_visitor(request.session)
    forms = {kind: task.form(auto_id=f"{kind}_%s") for kind, task in kinds().items()}
    return render(request, "HomeApp/home.html", {"forms": forms})


@require_safe
@never_cache
def exports(request: HttpRequest) -> HttpResponse:
    """The Excel export, and its bars."""
    owner = remember_visitor(request.session)
    form = ExportJobsForm(auto_id="export_jobs_%s")
    if not may_export_everybody(owner):
        del form.fields["everybody"]
    return render(request, "HomeApp/exports.html", {"form": form})


@require_safe
@never_cache
def my_jobs(request: HttpRequest) -> HttpResponse:
    """All jobs of whoever asks, the newest first, as they are now."""
    mine = Job.objects.filter(owner=owner_of(request.session)).order_by("-created_at", "pk")
    page = Paginator(mine, JOBS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "HomeApp/jobs.html", {"page": page})


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Tell whether this web process can do its work: 200 while it can reach the database, else 503."""
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return JsonResponse({"database": "unreachable"}, status=503)
    return JsonResponse({"database": "ok"})
