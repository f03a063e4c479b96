"""What other apps may hear of jobs."""

from django.dispatch import Signal

#: Sent on commit once a job has been started, with `sender=Job` and `job`, the `Job`, in the process that started it.
#: The task is sent after that, so a receiver that takes long delays it. What receivers raise is logged.
job_started = Signal()
#: Sent once a job has ended and its row says so, with `sender=Job` and `job`, the `Job`. Receivers run in the thread
#: that has written the row, as a rule the relay's: one that takes long should start a task. What they raise is logged.
job_finished = Signal()
