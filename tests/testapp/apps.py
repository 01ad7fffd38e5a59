import os

from django.apps import AppConfig
from django.utils.module_loading import import_string


class TestAppConfig(AppConfig):
    name = "tests.testapp"
    label = "testapp"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Call what `TASKS_SEQ_TEST_PATCHES` names: faults that tests want inside a worker process."""
        for path in filter(None, os.environ.get("TASKS_SEQ_TEST_PATCHES", "").split(",")):
            import_string(path)()
