"""The pages."""

from django.conf import settings
from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.auth.views import LoginView
from django.core.paginator import Paginator
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from HomeApp import jobs
from HomeApp.exports import may_export_everybody
from HomeApp.forms import ExportJobsForm, SearchForm
from HomeApp.jobs import kinds
from HomeApp.models import Job
from HomeApp.owner import owner_of, remember_visitor

#: Jobs on a page of "my jobs".
JOBS_PER_PAGE = 25

#: The search page's first page holds all that its socket shows on connecting, so that nothing is there twice.
SEARCHES_PER_PAGE = 20


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """START, and the bars."""
    remember_visitor(request.session)
    forms = {kind: task.form(auto_id=f"{kind}_%s") for kind, task in kinds().items()}
    return render(request, "HomeApp/home.html", {"forms": forms})


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def search(request: HttpRequest) -> HttpResponse:
    """The search form and its owner's searches. The page posts over its socket; without scripts, it posts here."""
    owner = remember_visitor(request.session)
    problem = None
    if request.method == "POST":
        try:
            jobs.start(owner, "search", {"query": request.POST.get("query", "")}, request.POST.get("ref"))
            return redirect("search")
        except jobs.Refused as refused:
            problem = refused
    searches = Job.objects.filter(owner=owner, kind="search").order_by("-created_at").prefetch_related("results")
    page = Paginator(searches, max(SEARCHES_PER_PAGE, settings.JOBS_RECENT)).get_page(request.GET.get("page"))
    form = SearchForm(initial={"query": request.POST.get("query")})
    context = {"form": form, "problem": problem, "searches": page}
    return render(request, "HomeApp/search.html", context, status=400 if problem else 200)


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
def signup(request: HttpRequest) -> HttpResponse:
    """The sign-up form, which signup.js posts to the API."""
    if request.user.is_authenticated:
        return redirect("home")
    remember_visitor(request.session)
    get_token(request)  # its cookie is what the form's post brings
    return render(request, "HomeApp/signup.html", {"password_rules": password_validators_help_texts()})


class LogInView(LoginView):
    """The log-in form; whoever is logged in has nothing to do there."""

    template_name = "HomeApp/login.html"
    redirect_authenticated_user = True


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
