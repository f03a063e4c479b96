"""The pages."""

from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.auth.views import LoginView
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from HomeApp.jobs import kinds
from HomeApp.owner import remember_visitor


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """START, and the bars."""
    remember_visitor(request.session)
    forms = {kind: task.form(auto_id=f"{kind}_%s") for kind, task in kinds().items()}
    return render(request, "HomeApp/home.html", {"forms": forms})


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
