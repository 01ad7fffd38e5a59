"""A model field that keeps JSON as the text it was written as."""

from __future__ import annotations

from json import loads  # bound here: a task may put something else in the module
from typing import Any

from django.db import models

from .payloads import encode


class JSONTextField(models.TextField):  # type: ignore[type-arg]
    """JSON kept verbatim as text on every database; `None` is SQL NULL.

    jsonb turns 1e16 into an integer and loses -0.0 and the order of keys, and a task must receive
    exactly what the task before it returned (promise G3). Values are checked strictly on the way in.
    """

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Any:
        if value is None:
            return None
        try:
            return loads(value)
        except (ValueError, RecursionError):
            # Spoilt by another writer. People's pages show it; a task never gets it, its job fails.
            return value

    def to_python(self, value: Any) -> Any:
        return value

    def get_prep_value(self, value: Any) -> str | None:
        return encode(value, name=self.name or "value")

    def value_to_string(self, obj: models.Model) -> Any:
        # For fixtures, which are JSON themselves: text in there would come back as a text.
        return self.value_from_object(obj)
