"""The pages."""

from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.auth.views import LoginView
from django.core.paginator import Paginator
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_http_methods, require_safe

from HomeApp.exports import may_export_everybody
from HomeApp.forms import ExportJobsForm, JobFilterForm, SearchForm
from livejobs import jobs
from livejobs.conf import conf
from livejobs.models import Job
from livejobs.owner import owner_of, remember_visitor
from livejobs.place import fill_in
from livejobs.readiness import OK, readiness
from livejobs.threads import in_thread

#: Jobs on a page of "my jobs".
JOBS_PER_PAGE = 25

#: The search page's first page holds all that its socket shows on connecting, so that nothing is there twice.
SEARCHES_PER_PAGE = 20


@require_safe
@never_cache
@ensure_csrf_cookie
def home(request: HttpRequest) -> HttpResponse:
    """START, and the bars."""
    remember_visitor(request.session)
    return render(request, "HomeApp/home.html")


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@ensure_csrf_cookie
def search(request: HttpRequest) -> HttpResponse:
    """The search form and its owner's searches. The page posts over its socket; without scripts, it posts here."""
    owner = remember_visitor(request.session)
    problem = None
    if request.method == "POST":
        try:
            jobs.start(request, "search", {"query": request.POST.get("query", "")}, request.POST.get("ref"))
            return redirect("search")
        except jobs.Refused as refused:
            problem = refused
    searches = (
        Job.objects.filter(owner=owner, kind="search", parent=None).order_by("-created_at").prefetch_related("results")
    )
    page = Paginator(searches, max(SEARCHES_PER_PAGE, conf.RECENT)).get_page(request.GET.get("page"))
    form = SearchForm(initial={"query": request.POST.get("query")})
    context = {"form": form, "problem": problem, "searches": page}
    return render(request, "HomeApp/search.html", context, status=400 if problem else 200)


@require_safe
@never_cache
@ensure_csrf_cookie
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
    """All jobs of the owner, the newest first, or those of a state, a kind or with words in their titles; live."""
    mine = Job.objects.filter(owner=owner_of(request.session), parent=None).order_by("-created_at", "pk")
    form = JobFilterForm(request.GET)
    page = Paginator(form.filtered(mine), JOBS_PER_PAGE).get_page(request.GET.get("page"))
    fill_in(page)
    return render(request, "HomeApp/jobs.html", {"page": page, "form": form})


@require_safe
@never_cache
@ensure_csrf_cookie
def signup(request: HttpRequest) -> HttpResponse:
    """The sign-up form, which signup.js posts to the API."""
    if request.user.is_authenticated:
        return redirect("home")
    remember_visitor(request.session)
    return render(request, "HomeApp/signup.html", {"password_rules": password_validators_help_texts()})


class LogInView(LoginView):
    """The log-in form; a user who is logged in is sent on."""

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


@require_safe
@never_cache
async def readyz(request: HttpRequest) -> HttpResponse:
    """Tell of each part that jobs need whether it is there: 200 if all of them are, else 503."""
    states = await in_thread(readiness)
    return JsonResponse(states, status=200 if set(states.values()) == {OK} else 503)
