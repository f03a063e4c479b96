"""The site's sockets. What they do is in livejobs; a consumer of your own derives from one of these."""

from livejobs import consumers


class JobsConsumer(consumers.JobsConsumer):
    """`ws/jobs/`: all jobs of the visitor, and the way to start one: START on the home page."""


class TaskStatusConsumer(consumers.TaskStatusConsumer):
    """`ws/task_status/<task_id>/`: one job, for its owner. Sign-up follows its welcome e-mail here."""
