"""The project's pages."""

from django.http import JsonResponse
from django.shortcuts import render
from django.urls import reverse

from warehouse.tasks import export_stock, import_stock


def start_import(request):
    """Start two tasks, and tell where celery-progress shows them."""
    tasks = {"import": import_stock.delay(), "export": export_stock.delay()}
    return JsonResponse({name: reverse("celery_progress:task_status", args=[task.id]) for name, task in tasks.items()})


def stock(request):
    """The page of the stock."""
    return render(request, "stock.html")
