"""What a search has found, row by row."""

from collections.abc import Iterable
from typing import Any

from django.db import models, transaction

from livejobs.models.job import Job


class SearchResultQuerySet(models.QuerySet["SearchResult"]):
    """Search results, by what one may ask of them."""

    def replace(self, job_id: str, results: Iterable[Any]) -> None:
        """Store what a search has found, in place of what an earlier attempt has; nothing, where it has ended.

        Args:
            job_id: the search's.
            results: each with a `title`, a `url` and a `content`, the best first.
        """
        with transaction.atomic():
            job = Job.objects.select_for_update().get(pk=job_id)  # two attempts may end at the same moment
            if job.final:
                return
            self.filter(job=job).delete()
            SearchResult.objects.bulk_create(
                SearchResult(job=job, position=n, title=one.title, url=one.url, content=one.content)
                for n, one in enumerate(results, 1)
            )


class SearchResult(models.Model):
    """One thing that a search has found. Its owner is its job's."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="results")
    position = models.PositiveSmallIntegerField(help_text="1 is the best.")
    title = models.CharField(max_length=200)
    url = models.URLField(max_length=2000, blank=True, help_text="http or https; empty where there is no page.")
    content = models.TextField(blank=True)

    objects = SearchResultQuerySet.as_manager()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["job", "position"], name="one_result_per_position")]

    def __str__(self) -> str:
        return f"{self.position}. {self.title}"
