"""Test cases of projects that use tasks."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from django.test.utils import override_settings

from django_taskq.testing import sent


def override_taskq(**keys: Any) -> override_settings:
    """`override_settings` for some keys of TASKQ: a decorator and a context manager."""
    return override_settings(TASKQ={**getattr(settings, "TASKQ", {}), **keys})


class TaskqTestMixin(SimpleTestCase):
    """Each test begins with nothing sent. `taskq_mode` is TASKQ["MODE"] of the class."""

    taskq_mode: ClassVar[str] = "collect"

    assert_enqueued = staticmethod(sent.assert_enqueued)
    assert_not_enqueued = staticmethod(sent.assert_not_enqueued)
    enqueued = staticmethod(sent.enqueued)
    run_enqueued = staticmethod(sent.run_enqueued)

    @classmethod
    def setUpClass(cls) -> None:
        """Before setUpTestData, so that what that sends stays here too."""
        cls.enterClassContext(override_taskq(MODE=cls.taskq_mode))
        super().setUpClass()

    def setUp(self) -> None:
        """Forgets what was sent before."""
        super().setUp()
        sent.clear_enqueued()


class TaskqTestCase(TaskqTestMixin, TestCase):
    """As Django's. What `delay_on_commit()` sends appears with `captureOnCommitCallbacks(execute=True)`."""


class TaskqTransactionTestCase(TaskqTestMixin, TransactionTestCase):
    """As Django's: transactions are real, and what is sent on commit is sent at the commit."""
