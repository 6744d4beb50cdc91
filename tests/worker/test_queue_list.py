"""What `--queues` may say."""

from __future__ import annotations

import pytest

from django_taskq.worker.queue_list import parse_queues

DECLARED = ("critical", "default", "low")


def test_names_have_an_order_and_perhaps_weights() -> None:
    assert parse_queues("low,default", DECLARED) == (("low", "default"), ())
    assert parse_queues("critical:6, default:3,low:1", DECLARED) == (DECLARED, (6, 3, 1))


@pytest.mark.parametrize("text", ["critical:6,default", "critical,default:3,low"])
def test_all_queues_have_weights_or_none_has(text: str) -> None:
    with pytest.raises(ValueError, match="gives some queues a weight and others none"):
        parse_queues(text, DECLARED)
