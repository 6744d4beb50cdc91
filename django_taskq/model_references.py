"""Rows as arguments: a parameter hinted with a model takes an instance, which travels as model, key and database.

    @task
    def send_invoice(order: Order) -> None: ...

    send_invoice.delay(order)        # {"model": "shop.order", "pk": 7, "database": "default"}

The worker reads the row when the function begins, so it sees what is committed by then.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Model

from django_taskq.core.fidelity import leaves
from django_taskq.core.references import set_referring
from django_taskq.exceptions import Discard, RowGone

if TYPE_CHECKING:
    from django_taskq.context import TaskContext

_MARK = "_taskq_reference"  # on instances that have a key and a database, and nothing else yet


class _Rows:
    """As core.references.Referring."""

    def takes(self, kind: type) -> bool:
        return issubclass(kind, Model) and hasattr(kind, "_meta") and not kind._meta.abstract

    def refer(self, value: Model) -> dict[str, Any]:
        if value.pk is None or value._state.adding:
            raise ValueError("it has not been saved, so no worker could find it")
        database = value._state.db or router.db_for_read(type(value), instance=value)
        return {"model": value._meta.label_lower, "pk": value.pk, "database": database}

    def restore(self, kind: type[Model], reference: Any) -> Model:
        """An instance with the key only; Django itself would load the rest when it is asked for."""
        model, key, database = _read(kind, reference)
        if model._meta.pk is None:
            raise ValueError(f"{model._meta.label} has no table")
        try:
            key = model._meta.pk.to_python(key)
        except ValidationError as error:
            raise ValueError("; ".join(error.messages)) from error
        instance = model.from_db(database, [model._meta.pk.attname], [key])
        instance.__dict__[_MARK] = True
        return instance


def _read(kind: type[Model], reference: Any) -> tuple[type[Model], Any, str]:
    """Model, key and database; a bare key is that of the hint's own model."""
    if not isinstance(reference, dict):
        if isinstance(reference, bool) or not isinstance(reference, int | str):
            raise ValueError(f"a row is given by its key, not by {reference!r:.50}")
        return kind, reference, router.db_for_read(kind)
    try:
        model, key = apps.get_model(reference["model"]), reference["pk"]
    except (KeyError, LookupError, ValueError, AttributeError) as error:
        raise ValueError(f"no reference to a row: {error}") from error
    if not issubclass(model, kind):
        raise ValueError(f"a reference to {model._meta.label} is none to {kind._meta.label}")
    return model, key, str(reference.get("database") or router.db_for_read(model))


def fill(context: TaskContext, arguments: Any) -> None:
    """Reads the rows that `arguments` refer to, one query for each model and database.

    Raises Discard, or RowGone where the task has row_gone="fail", if one is not there.
    """
    found: dict[tuple[type[Model], str], list[Model]] = defaultdict(list)
    for leaf in leaves(arguments):
        if isinstance(leaf, Model) and leaf.__dict__.get(_MARK):
            found[type(leaf), leaf._state.db or ""].append(leaf)
    for (model, database), instances in found.items():
        rows = model._base_manager.using(database).in_bulk({instance.pk for instance in instances})
        for instance in instances:
            row = rows.get(instance.pk)
            if row is None:
                gone = f"row_gone: {model._meta.label_lower} {instance.pk} is not in the database {database!r}"
                raise RowGone(gone) if context.task.row_gone == "fail" else Discard(gone)
            instance.__dict__.clear()
            instance.__dict__.update(row.__dict__, _state=copy.copy(row._state))


set_referring(_Rows())
