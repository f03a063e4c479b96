"""The pages."""

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
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
def healthz(request: HttpRequest) -> HttpResponse:
    """Tell whether this web process can do its work: 200 while it can reach the database, else 503."""
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return JsonResponse({"database": "unreachable"}, status=503)
    return JsonResponse({"database": "ok"})
