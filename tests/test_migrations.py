"""Migrations of a release only add: what ran before it goes on writing and reading while it is rolled out."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tests.servers import ROOT

NAMES = sorted(path.stem for path in (ROOT / "django_taskq" / "migrations").glob("0*.py"))
# None of these changes what an INSERT of an earlier version has to say, or what its SELECT finds.
HARMLESS = (migrations.CreateModel, migrations.AddIndex, migrations.RemoveIndex, migrations.AlterModelOptions)


def stored(field: Any) -> dict[str, Any]:
    """What the database knows of a field."""
    _, path, args, options = field.deconstruct()
    told = {name: value for name, value in options.items() if name not in field.non_db_attrs}
    told.pop("default", None)
    return {"type": path, "args": args, **told}


def widens(before: Any, after: Any) -> bool:
    old, new = stored(before), stored(after)
    if (new.pop("null", False), old.pop("null", False)) == (False, True):
        return False
    longer, shorter = new.pop("max_length", 0) or 0, old.pop("max_length", 0) or 0
    return longer >= shorter and new == old


def refusal(operation: Operation, state: ProjectState) -> str:
    """Why an earlier version could not live with it; '' where it can."""
    if isinstance(operation, HARMLESS):
        return ""
    if isinstance(operation, migrations.AddField):
        field = operation.field
        known = field.null or field.db_default is not models.NOT_PROVIDED
        return "" if known else f"{operation.name} is NOT NULL, and no INSERT of an earlier version gives it a value"
    if isinstance(operation, migrations.AlterField):
        before = state.models["django_taskq", operation.model_name_lower].get_field(operation.name)
        return "" if widens(before, operation.field) else f"{operation.name} becomes narrower, or something else"
    return f"{type(operation).__name__} is for the release after the next one"


def refusals(label: str, operations: list[Operation], state: ProjectState) -> list[str]:
    found = []
    for operation in operations:
        if reason := refusal(operation, state):
            found.append(f"{label}: {reason}")
        operation.state_forwards("django_taskq", state)
    return found


def test_every_migration_leaves_earlier_versions_working() -> None:
    state = ProjectState()
    for name in NAMES:
        operations = import_module(f"django_taskq.migrations.{name}").Migration.operations
        assert refusals(name, operations, state) == []


TEXT = models.CharField(max_length=20)


@pytest.mark.parametrize(
    ("operation", "refused"),
    [
        (migrations.AddField("Row", "more", models.IntegerField(null=True)), False),
        (migrations.AddField("Row", "more", models.IntegerField(db_default=0)), False),
        (migrations.AddField("Row", "more", models.IntegerField(default=0)), True),
        (migrations.AlterField("Row", "text", models.CharField("shown", max_length=30, null=True)), False),
        (migrations.AlterField("Row", "text", models.CharField(max_length=10)), True),
        (migrations.AlterField("Row", "text", models.CharField(max_length=20, unique=True)), True),
        (migrations.AlterField("Row", "text", models.IntegerField()), True),
        (migrations.AlterField("Row", "maybe", models.IntegerField()), True),
        (migrations.RemoveField("Row", "text"), True),
        (migrations.RenameField("Row", "text", "words"), True),
        (migrations.RenameModel("Row", "Line"), True),
        (migrations.DeleteModel("Row"), True),
        (migrations.AddConstraint("Row", models.UniqueConstraint(fields=["text"], name="once")), True),
        (migrations.RunSQL("DELETE FROM row"), True),
        (migrations.RunPython(migrations.RunPython.noop), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Operation) else "",
)
def test_what_an_earlier_version_could_not_live_with_is_found(operation: Operation, refused: bool) -> None:
    state = ProjectState()
    fields = [("id", models.BigAutoField(primary_key=True)), ("text", TEXT), ("maybe", models.IntegerField(null=True))]
    migrations.CreateModel("Row", fields).state_forwards("django_taskq", state)
    assert bool(refusal(operation, state)) == refused
