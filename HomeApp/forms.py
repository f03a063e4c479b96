"""What each kind of job may be started with."""

from django import forms

from HomeApp.primes import DEFAULT_BELOW


class CountPrimesForm(forms.Form):
    """The parameters of `count_primes`."""

    below = forms.IntegerField(
        label="Count the primes below", min_value=1_000, max_value=100_000_000, initial=DEFAULT_BELOW
    )


class WelcomeEmailForm(forms.Form):
    """The parameters of `welcome_email`: no address and no secret, as rows and messages are read by many."""

    user_id = forms.IntegerField()
