"""Migration operations for what one database alone has; the others are left as they are.

Migrations that have been released import these: names and arguments stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class MariaDBOperation(Operation):
    """Changes a model's table on MariaDB, and nothing elsewhere or in the models' state."""

    reduces_to_sql = True
    reversible = True
    model_name: str

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """A model knows nothing of it."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Change it."""
        self._alter(app_label, schema_editor, to_state, forwards=True)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Make it as it was."""
        self._alter(app_label, schema_editor, from_state, forwards=False)

    def _alter(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        state: ProjectState,
        *,
        forwards: bool,
    ) -> None:
        connection = schema_editor.connection
        model = state.apps.get_model(app_label, self.model_name)
        if connection.vendor != "mysql" or not self.allow_migrate_model(connection.alias, model):
            return
        for change in self.changes(schema_editor, model, forwards=forwards):
            table = schema_editor.quote_name(model._meta.db_table)
            schema_editor.execute(f"ALTER TABLE {table} {change}", None)

    def changes(
        self, schema_editor: BaseDatabaseSchemaEditor, model: Any, *, forwards: bool
    ) -> list[str]:
        """What follows `ALTER TABLE …` in each statement."""
        raise NotImplementedError


class IndexOnMariaDB(MariaDBOperation):
    """Give an index whose condition MariaDB has left out the columns of the condition, in front.

    >>> IndexOnMariaDB("job", "tseq_job_waiting", ["run_after"], ["status"]).describe()
    'Put status before run_after in tseq_job_waiting on MariaDB'
    """

    def __init__(
        self, model_name: str, name: str, fields: Sequence[str], first: Sequence[str]
    ) -> None:
        self.model_name = model_name
        self.name = name
        self.fields = list(fields)
        self.first = list(first)

    def describe(self) -> str:
        """What `sqlmigrate` and `migrate --plan` say of it."""
        first, fields = ", ".join(self.first), ", ".join(self.fields)
        return f"Put {first} before {fields} in {self.name} on MariaDB"

    def changes(
        self, schema_editor: BaseDatabaseSchemaEditor, model: Any, *, forwards: bool
    ) -> list[str]:
        """One statement, so that nothing has to be found without the index."""
        names = [*self.first, *self.fields] if forwards else self.fields
        quote = schema_editor.quote_name
        columns = ", ".join(quote(model._meta.get_field(name).column) for name in names)
        index = quote(self.name)
        return [f"DROP INDEX {index}, ADD INDEX {index} ({columns})"]


class ExactTextOnMariaDB(MariaDBOperation):
    """Compare text fields letter by letter, as other databases do; the table takes any character.

    With MariaDB's usual collations "A" is "a", and "a " as well: keys that differ would be one.

    >>> ExactTextOnMariaDB("job", ["queue"]).describe()
    'Compare queue of job exactly on MariaDB'
    """

    def __init__(self, model_name: str, fields: Sequence[str]) -> None:
        self.model_name = model_name
        self.fields = list(fields)

    def describe(self) -> str:
        """What `sqlmigrate` and `migrate --plan` say of it."""
        return f"Compare {', '.join(self.fields)} of {self.model_name} exactly on MariaDB"

    def changes(
        self, schema_editor: BaseDatabaseSchemaEditor, model: Any, *, forwards: bool
    ) -> list[str]:
        """The table's characters first; backwards the columns have its collation again."""
        how = " COLLATE utf8mb4_nopad_bin" if forwards else ""
        columns = []
        for name in self.fields:
            field = model._meta.get_field(name)
            null = "NULL" if field.null else "NOT NULL"
            column = schema_editor.quote_name(field.column)
            kind = field.db_type(schema_editor.connection)
            columns.append(f"MODIFY {column} {kind} CHARACTER SET utf8mb4{how} {null}")
        return [*(["CONVERT TO CHARACTER SET utf8mb4"] if forwards else []), ", ".join(columns)]
