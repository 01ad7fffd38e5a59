"""Migration operations for what PostgreSQL alone has; other databases are left as they are.

Migrations that have been released import these: names and arguments stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import AddIndex
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

VENDOR = "postgresql"


class SetStorage(Operation):
    """Set storage parameters of a model's table; backwards they are as the server's settings say.

    >>> SetStorage("job", {"autovacuum_vacuum_scale_factor": 0.02}).describe()
    'Set autovacuum_vacuum_scale_factor = 0.02 on the table of job'
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, model_name: str, parameters: Mapping[str, float]) -> None:
        self.model_name = model_name
        self.parameters = dict(parameters)

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """A model knows nothing of how its table is stored."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Set them; what the table holds is not rewritten and nobody is kept from reading or writing."""
        self._alter(app_label, schema_editor, to_state, f"SET ({self._settings})")

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Reset them."""
        self._alter(app_label, schema_editor, to_state, f"RESET ({', '.join(self.parameters)})")

    def describe(self) -> str:
        """What `sqlmigrate` and `migrate --plan` say of it."""
        return f"Set {self._settings} on the table of {self.model_name}"

    @property
    def _settings(self) -> str:
        return ", ".join(f"{name} = {value:g}" for name, value in self.parameters.items())

    def _alter(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, how: str
    ) -> None:
        connection = schema_editor.connection
        model = state.apps.get_model(app_label, self.model_name)
        if connection.vendor == VENDOR and self.allow_migrate_model(connection.alias, model):
            table = schema_editor.quote_name(model._meta.db_table)
            schema_editor.execute(f"ALTER TABLE {table} {how}", None)


class AddIndexInUse(AddIndex):
    """`AddIndex` for a table that is being written: on PostgreSQL it is built without a lock.

    Its migration must have `atomic = False`. An attempt that was interrupted leaves an index that
    nobody uses; the next one drops that first.
    """

    atomic = False

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Build it."""
        self._alter(app_label, schema_editor, to_state, builds=True)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop it."""
        self._alter(app_label, schema_editor, from_state, builds=False)

    def _alter(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        state: ProjectState,
        *,
        builds: bool,
    ) -> None:
        editor: Any = schema_editor
        model = state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(editor.connection.alias, model):
            return
        # PostgreSQL refuses this in a transaction, which a test may have around a migration.
        is_special = editor.connection.vendor == VENDOR and not editor.connection.in_atomic_block
        extra = {"concurrently": True} if is_special else {}
        if is_special or not builds:
            # With CONCURRENTLY it is DROP … IF EXISTS.
            editor.remove_index(model, self.index, **extra)
        if builds:
            editor.add_index(model, self.index, **extra)
