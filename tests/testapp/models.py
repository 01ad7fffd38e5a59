"""What tasks of the tests leave behind."""

from django.db import models


class Effect(models.Model):
    """One call of a task. No unique key: a doubled call must be seen, not prevented."""

    job_id = models.UUIDField(null=True)
    task_id = models.CharField(max_length=200, blank=True, default="")
    attempt = models.IntegerField(default=1)
    value = models.TextField(blank=True, default="")
    token = models.CharField(max_length=200, blank=True, default="")

    def __str__(self) -> str:
        return f"{self.job_id}:{self.task_id} attempt {self.attempt}"


class Account(models.Model):
    """A balance that atomic tasks move."""

    name = models.CharField(max_length=100)
    balance = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """A subject of jobs."""

    number = models.CharField(max_length=50)
    status = models.CharField(max_length=20, default="new")
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)

    def __str__(self) -> str:
        return f"Order #{self.number}"
