"""Notes whatever goes wrong in a page: errors on its console (a broken policy is one), in its scripts, dialogs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Dialog, Page


class Watch:
    def __init__(self, page: Page) -> None:
        self.problems: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("dialog", self._dialog)

    def _console(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        if message.type == "error" and not url.endswith("/favicon.ico"):  # which the browser asks for by itself
            self.problems.append(f"console: {message.text} ({url})")

    def _dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def forgive(self, *texts: str) -> None:
        """Drops what a test has brought about itself."""
        self.problems[:] = [problem for problem in self.problems if not any(text in problem for text in texts)]
