"""A type checker sees a task with the signature and the result of its function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

CALLS = Path(__file__).parent / "calls.py"

# What else mypy finds in the package is `make check`'s business, with the plugin and the stubs that this does without.
CONFIG = """
[mypy]
strict = true
follow_imports = silent
ignore_missing_imports = true
show_error_codes = true
"""


@pytest.mark.slow
def test_mypy_accepts_right_calls_and_rejects_wrong_ones(tmp_path: Path) -> None:
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG)
    report, trouble, _code = api.run(
        ["--config-file", str(config), "--cache-dir", str(tmp_path / "cache"), "--no-error-summary", str(CALLS)]
    )
    assert not trouble
    errors: dict[int, str] = {}
    for line in report.splitlines():
        if match := re.match(r".*calls\.py:(\d+): error: (.*)", line):
            errors[int(match[1])] = match[2]
    lines = CALLS.read_text().splitlines()
    expected = {number: text.split("# E: ")[1] for number, text in enumerate(lines) if text.strip().startswith("# E: ")}
    assert len(expected) > 20
    for number, text in expected.items():
        assert text in errors.get(number, ""), f"line {number}: {lines[number - 1]}: {errors.get(number)}"
    assert not {number: text for number, text in errors.items() if number not in expected}
