"""What other apps may hear of this one."""

from django.dispatch import Signal

#: Sent once a job has ended and its row says so, with `sender=Job` and `job`, the `Job`. Receivers run in the thread
#: that has written the row, as a rule the relay's: one that takes long should start a task. What they raise is logged.
job_finished = Signal()
