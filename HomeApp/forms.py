"""What each kind of job may be started with."""

from django import forms
from django.core.exceptions import ValidationError

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
            raise ValidationError("The text holds half a character. Write it anew.") from None
        return query
