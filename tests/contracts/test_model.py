"""The contract of stores, kept by the one on tables."""

import pytest

from django_tasks_seq.cache import ModelTaskCacheHandler
from django_tasks_seq.cache.base import BaseJobStore
from tests.contracts.store_contract import JobStoreContract


@pytest.mark.django_db
class TestModel(JobStoreContract):
    def make_store(self) -> BaseJobStore:
        return ModelTaskCacheHandler()
