"""The states of a job, and how its reports are numbered."""

from django.db import models

#: Reports of one attempt are numbered from `attempt * SEQ_PER_ATTEMPT`; whatever ends an attempt takes the last
#: number. So a later attempt outranks an earlier one, and an end outranks every report of its attempt.
SEQ_PER_ATTEMPT = 10**9
#: Characters of a reason or an error that a row holds.
REASON = 500

#: Why an attempt is not the first; `{}` is the number of the attempt before it.
SHUT_DOWN = "The worker that ran attempt {} was shut down."


class State(models.TextChoices):
    """Celery's own states, each with what it means for the visitor."""

    PENDING = "PENDING"  #: no worker has begun it
    STARTED = "STARTED"  #: a worker has begun it and not yet reported a percentage
    PROGRESS = "PROGRESS"  #: running, with a percentage
    RETRY = "RETRY"  #: an attempt has failed, another one will be made
    SUCCESS = "SUCCESS"  #: ended with a result
    FAILURE = "FAILURE"  #: ended with an error
    REVOKED = "REVOKED"  #: ended by its owner


#: The states that a job never leaves.
FINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})

#: An attempt that loses its worker is a loss. A job ends after so many.
MOST_LOSSES = 3
