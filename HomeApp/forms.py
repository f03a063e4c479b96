"""What each kind of job may be started with. A form finds the owner of the job in `self.owner`."""

from typing import Any, ClassVar

from django import forms
from django.core.files import File
from django.db.models import QuerySet
from django.forms.utils import pretty_name

from HomeApp import checksums
from HomeApp.exports import FORBIDDEN, may_export_everybody
from HomeApp.primes import DEFAULT_BELOW
from livejobs.kinds import kinds
from livejobs.models import Job, State


class CountPrimesForm(forms.Form):
    """The parameters of `count_primes`."""

    below = forms.IntegerField(
        label="Count the primes below", min_value=1_000, max_value=100_000_000, initial=DEFAULT_BELOW
    )


class SearchForm(forms.Form):
    """The parameters of `search`."""

    query = forms.CharField(
        label="Search for", max_length=200, widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"})
    )

    def clean_query(self) -> str:
        """Refuse what no database can store: half of a surrogate pair, which JSON can carry."""
        query: str = self.cleaned_data["query"]
        try:
            query.encode()
        except UnicodeEncodeError:
            raise forms.ValidationError("The text holds half a character. Write it anew.") from None
        return query


class JobFilterForm(forms.Form):
    """Which of an owner's jobs are listed. What is not valid filters nothing."""

    STATES: ClassVar = {
        "running": [State.STARTED, State.PROGRESS],
        "waiting": [State.PENDING, State.RETRY],
        "done": [State.SUCCESS],
        "failed": [State.FAILURE],
        "cancelled": [State.REVOKED],
    }
    words = forms.CharField(label="Title", required=False, max_length=200, widget=forms.TextInput({"type": "search"}))
    state = forms.ChoiceField(
        label="State", required=False, choices=[("", "All"), *((name, name.capitalize()) for name in STATES)]
    )
    kind = forms.ChoiceField(
        label="Kind",
        required=False,
        choices=lambda: [("", "All"), *((name, pretty_name(name)) for name in kinds())],
    )

    def filtered(self, jobs: "QuerySet[Job]") -> "QuerySet[Job]":
        """Return those of some jobs that the form asks for."""
        self.full_clean()
        asked = self.cleaned_data
        if words := asked.get("words"):
            jobs = jobs.filter(title__icontains=words)
        if state := asked.get("state"):
            jobs = jobs.filter(state__in=self.STATES[state])
        if kind := asked.get("kind"):
            jobs = jobs.filter(kind=kind)
        return jobs


class ExportJobsForm(forms.Form):
    """The parameters of `export_jobs`."""

    owner: str
    everybody = forms.BooleanField(label="everybody's jobs, not only mine", required=False, initial=False)

    def clean_everybody(self) -> bool:
        """Refuse the export of everybody's jobs to an owner without the permission."""
        everybody: bool = self.cleaned_data["everybody"]
        if everybody and not may_export_everybody(self.owner):
            raise forms.ValidationError(FORBIDDEN, code="forbidden")
        return everybody


class ChecksumsForm(forms.Form):
    """The parameters of `checksums`."""

    archive = forms.FileField(
        label="Checksums of a zip file",
        widget=forms.ClearableFileInput(attrs={"accept": ".zip,application/zip"}),
    )

    def clean_archive(self) -> File:  # type: ignore[type-arg]  # it cannot be subscripted at run time
        """Refuse what is no zip file, or is too large once it is unpacked."""
        archive: Any = self.cleaned_data["archive"]
        try:
            checksums.check(archive)
        except checksums.BadArchive as bad:
            raise forms.ValidationError(str(bad)) from None
        archive.seek(0)
        return archive  # type: ignore[no-any-return]


class PartOfChecksumsForm(forms.Form):
    """The parameters of `checksums_of_part`."""

    number = forms.IntegerField()
    first = forms.IntegerField()
    count = forms.IntegerField()


class WelcomeEmailForm(forms.Form):
    """The parameters of `welcome_email`: no address and no secret, as rows and messages are read by many."""

    user_id = forms.IntegerField()
