"""The tasks, one per kind of job. No logic of their own: each calls the work and lets it be tracked."""

from celery import shared_task

from HomeApp import primes
from HomeApp import welcome_email as welcome
from HomeApp.forms import CountPrimesForm, WelcomeEmailForm
from HomeApp.models import User
from HomeApp.progress import JobError, JobTask, TryAgain


@shared_task(base=JobTask, bind=True, form=CountPrimesForm, title="Primes below {below}")
def count_primes(self: JobTask, below: int) -> int:
    """Count the primes below a number."""
    return primes.count_primes(below, self.track)


@shared_task(base=JobTask, bind=True, form=WelcomeEmailForm, title="Welcome e-mail", startable=False)
def welcome_email(self: JobTask, user_id: int) -> None:
    """Send a new user the welcome e-mail."""
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise JobError("The e-mail could not be sent: there is no such user any more.")
    try:
        welcome.send(user.email, user.username)
    except welcome.Unsent as unsent:
        raise (TryAgain if unsent.temporary else JobError)(str(unsent)) from unsent
