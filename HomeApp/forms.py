"""What each kind of job may be started with. A form whose answer depends on who asks finds them in `self.owner`."""

from django import forms

from HomeApp.exports import FORBIDDEN, may_export_everybody
from HomeApp.primes import DEFAULT_BELOW


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
        query = self.cleaned_data["query"]
        try:
            query.encode()
        except UnicodeEncodeError:
            raise forms.ValidationError("The text holds half a character. Write it anew.") from None
        return query


class ExportJobsForm(forms.Form):
    """The parameters of `export_jobs`."""

    owner: str
    everybody = forms.BooleanField(label="everybody's jobs, not only mine", required=False, initial=False)

    def clean_everybody(self) -> bool:
        """Refuse everybody's jobs to whoever may not see them."""
        if self.cleaned_data["everybody"] and not may_export_everybody(self.owner):
            raise forms.ValidationError(FORBIDDEN, code="forbidden")
        return self.cleaned_data["everybody"]


class WelcomeEmailForm(forms.Form):
    """The parameters of `welcome_email`: no address and no secret, as rows and messages are read by many."""

    user_id = forms.IntegerField()
