"""The form of a periodic task: what is typed is checked as `@task` would check it, and secrets stay hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from django_taskq.admin.arguments import Unusable, editable, edited
from django_taskq.core.message import Message
from django_taskq.core.sealing import is_sealed_json
from django_taskq.exceptions import KeyMissing, Undecryptable
from django_taskq.periodic.arguments import opened, sealed, shown
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import all_tasks, lookup

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[PeriodicTask]
else:
    ModelForm = forms.ModelForm

ARGUMENTS = ("args", "kwargs")
FIELDS = ("name", "task", "enabled", "cron", "every", "timezone", *ARGUMENTS, "jitter", "catch_up", "overlap")
MOST_JITTER = 86_400


class PeriodicForm(ModelForm):
    """Fields that the user may not see are not there, and stay as they are."""

    class Meta:
        model = PeriodicTask
        fields = FIELDS
        widgets = dict.fromkeys(ARGUMENTS, forms.Textarea(attrs={"rows": 3, "cols": 60, "class": "vLargeTextField"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task" in self.fields:
            names = sorted({task.name for task in all_tasks()} | {self.instance.task} - {""})
            self.fields["task"] = forms.ChoiceField(
                label=self.fields["task"].label, choices=[("", "---------"), *((name, name) for name in names)]
            )
        if "args" in self.fields and self.instance.pk:
            try:
                found = editable(message_of(self.instance))
            except Unusable as problem:
                for name, text in zip(ARGUMENTS, shown(self.instance, may=True), strict=True):
                    self.fields[name].disabled = True
                    self.fields[name].help_text = str(problem)
                    self.initial[name] = text
            else:
                self.initial.update(args=found.args, kwargs=found.kwargs)

    def clean_name(self) -> str:
        """As it can be shown and logged."""
        name: str = self.cleaned_data["name"].strip()
        if not name.isprintable():
            raise ValidationError(_("Use printable characters."))
        return name

    def clean_jitter(self) -> float:
        """Seconds, up to a day."""
        jitter: float = self.cleaned_data["jitter"]
        if not 0 <= jitter <= MOST_JITTER:
            raise ValidationError(_("From 0 to %(most)d seconds.") % {"most": MOST_JITTER})
        return jitter

    def clean(self) -> dict[str, Any]:
        """One schedule that can be used, and arguments that fit the task."""
        values = super().clean() or self.cleaned_data
        if not self.errors:
            self._check_schedule(values)
        if not self.errors and {"task", *ARGUMENTS} & set(self.changed_data):
            self._check_arguments(values)
        elif "args" in values:
            values.update(args=self.instance.args, kwargs=self.instance.kwargs)  # not what is shown instead of secrets
        if not self.errors and "args" in values:
            self._seal(values)
        return values

    def _check_schedule(self, values: dict[str, Any]) -> None:
        cron, every = " ".join(values["cron"].split()), values["every"]
        values["cron"], values["timezone"] = cron, values["timezone"].strip() or "UTC"
        if bool(cron) == (every is not None):
            raise ValidationError(_("Give either cron or every."))
        try:
            _times = PeriodicTask(cron=cron, every=every, timezone=values["timezone"]).times
        except (ValueError, ImportError) as error:
            field = "every" if every is not None else "timezone" if "time zone" in str(error) else "cron"
            self.add_error(field, str(error))

    def _check_arguments(self, values: dict[str, Any]) -> None:
        row = self.instance
        task = values.get("task", row.task)
        before = PeriodicTask.objects.filter(pk=row.pk).first() or PeriodicTask()
        if is_sealed_json(before.args) and "args" not in self.fields:
            text = _("Its arguments are sealed: who may not see them cannot give them to another task.")
            self.add_error("task", text)
            return
        try:
            stored = message_of(before)
        except Unusable as problem:
            self.add_error(None, str(problem))
            return
        stored.task = task
        typed = [values.get(name) or getattr(PeriodicTask(), name) for name in ARGUMENTS]
        if "args" not in self.fields:
            found = editable(stored)
            typed = [found.args, found.kwargs]
        try:
            arguments = edited(stored, *typed)
        except Unusable as problem:
            self.add_error(problem.field if problem.field in self.fields else None, str(problem))
            return
        values.update(args=arguments.args.decode(), kwargs=arguments.kwargs.decode())

    def _seal(self, values: dict[str, Any]) -> None:
        """Of a task that encrypts: what was typed, and what was seen here and is from before it did."""
        task = lookup(values.get("task", self.instance.task))
        if task is None or not task.encrypt or is_sealed_json(values["args"]):
            return
        name = self.instance.name or values["name"]
        try:
            args, kwargs = sealed(name, task.name, values["args"], values["kwargs"])
        except KeyMissing as error:
            self.add_error("args" if "args" in self.fields else None, str(error))
        else:
            values.update(args=args, kwargs=kwargs)


def message_of(row: PeriodicTask) -> Message:
    """The message that it sends, as far as arguments go; Unusable where they cannot be opened."""
    try:
        args, kwargs = opened(row.name, row.task, row.args, row.kwargs)
    except Undecryptable as error:
        raise Unusable(str(error)) from error
    return Message(b"", row.task, args.encode(), kwargs.encode())
