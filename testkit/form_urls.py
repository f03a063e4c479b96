"""The site's addresses, and a page with the form and the bars of each kind."""

from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path

from CeleryProgressbar.urls import handler500

__all__ = ["handler500", "urlpatterns"]

PAGE = Template(
    '{% extends "HomeApp/base.html" %}{% load livejobs %}'
    "{% block main %}{% job_form kind %}{% job_bars kind=kind %}{% endblock %}"
)


def page(request: HttpRequest, kind: str) -> HttpResponse:
    """Show the form of a kind, and its jobs."""
    return HttpResponse(PAGE.render(RequestContext(request, {"kind": kind})))


urlpatterns = [path("form/<str:kind>/", page), path("", include("CeleryProgressbar.urls"))]
