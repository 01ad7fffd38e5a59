"""What an order is to a shop: the row that an atomic task or a web request writes."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Entry(models.Model):
    """A row beside the jobs."""

    job_id = models.UUIDField(null=True)
    task_id = models.CharField(max_length=200)
    text = models.TextField()

    objects: ClassVar[models.Manager[Entry]] = models.Manager()

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return self.task_id
