from django_taskq.core.fingerprint import fingerprint, place_of
from tests.records.outcomes import TRACEBACK

OTHER_RELEASE = TRACEBACK.replace("/srv/releases/41/", "C:\\app\\").replace("line 12", "line 99")


def test_the_place_is_the_innermost_frame_of_the_application() -> None:
    assert place_of(TRACEBACK) == "shop/mail.py:send"


def test_only_the_error_that_was_raised_counts() -> None:
    earlier = 'Traceback (most recent call last):\n  File "/srv/a/first.py", line 1, in first\nKeyError\n\nDuring\n\n'
    assert place_of(earlier + TRACEBACK) == "shop/mail.py:send"


def test_without_a_frame_of_the_application_the_innermost_of_all_counts() -> None:
    foreign = 'Traceback (most recent call last):\n  File "/usr/lib/python3.11/json/decoder.py", line 3, in decode\n'
    assert place_of(foreign) == "json/decoder.py:decode"


def test_lines_and_directories_of_a_deployment_do_not_matter() -> None:
    first = fingerprint("shop.send", "failed", "smtplib.SMTPException", TRACEBACK)
    assert first == fingerprint("shop.send", "failed", "smtplib.SMTPException", OTHER_RELEASE)
    assert len(first) == 16


def test_another_error_or_place_is_another_kind() -> None:
    kinds = {
        fingerprint("shop.send", "failed", "smtplib.SMTPException", TRACEBACK),
        fingerprint("shop.send", "failed", "builtins.OSError", TRACEBACK),
        fingerprint("shop.send", "failed", "builtins.OSError", TRACEBACK.replace("in send", "in close")),
    }
    assert len(kinds) == 3


def test_without_a_traceback_the_reason_and_the_task_count() -> None:
    lost = fingerprint("shop.send", "worker_lost", "", "")
    assert lost == fingerprint("shop.send", "worker_lost", "", "")
    assert lost != fingerprint("shop.send", "hard_timeout", "", "")
    assert lost != fingerprint("shop.other", "worker_lost", "", "")
