"""What every measured message carries."""

from __future__ import annotations

EMAIL = {"to": "user123@example.com", "subject": "Welcome to our service!", "body": "Thank you for signing up."}
