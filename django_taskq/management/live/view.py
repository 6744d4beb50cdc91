"""The live view: what there is, looked at again and again by a thread of its own, so that keys always answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Sparkline, Static
from textual.worker import get_current_worker

from django_taskq.broker.inspector import Inspector
from django_taskq.exceptions import TaskqError
from django_taskq.management.live import rows
from django_taskq.management.live.glimpse import Glimpse, Rates, glimpse
from django_taskq.management.live.rows import Row

if TYPE_CHECKING:
    from django_taskq.broker import Broker

PAST = 120  # looks that the curve shows
HELP = """\
[b]Up, Down[/b]   choose a queue
[b]Tab[/b]        the next table
[b]p[/b]          pause the chosen queue: workers claim nothing more from it, what runs goes on
[b]r[/b]          resume it
[b]q[/b]          quit; nothing changes for the workers

[b]In/s[/b]       tasks that were sent, or came back, a second
[b]Ended/s[/b]    tasks that ended in any way; the curve is this, of all queues
[b]Failed/s[/b]   those of them that became dead letters

Any key closes this page."""


class Help(ModalScreen[None]):
    """What the keys do."""

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(HELP, id="help")

    def on_key(self, event: Key) -> None:
        """Any, and for nothing else."""
        event.stop()
        event.prevent_default()
        self.dismiss()


class LiveView(App[None]):
    """`every`: seconds between two looks. Nothing here waits for Redis: looks and requests run in threads."""

    TITLE = "taskq"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: 1; padding: 0 1; background: $panel; }
    #trouble { height: auto; padding: 0 1; background: $error; color: $text; display: none; }
    Sparkline { height: 3; margin: 0 1; }
    DataTable { height: auto; max-height: 16; margin-bottom: 1; }
    Help { align: center middle; }
    #help { width: auto; height: auto; max-width: 100; padding: 1 2; border: round $accent; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause queue"),
        Binding("r", "resume", "Resume queue"),
        Binding("question_mark,h", "help", "Help", key_display="?"),
        Binding("q,escape", "quit", "Quit", key_display="q"),
    ]

    def __init__(self, broker: Broker, every: float) -> None:
        super().__init__()
        self._broker, self._every = broker, every
        self._rates = Rates()
        self._past: deque[float] = deque([0.0] * PAST, PAST)
        self._away_since: float | None = None
        self._looking = False

    def compose(self) -> ComposeResult:
        """A line, a curve, four tables."""
        yield Static("looking …", id="summary")
        yield Static("", id="trouble", markup=False)
        with VerticalScroll(can_focus=False):
            yield Sparkline(self._past, id="past")
            for name, headings in (
                ("queues", rows.QUEUES), ("workers", rows.WORKERS), ("running", rows.RUNNING),
                ("failures", rows.FAILURES),
            ):  # fmt: skip
                table: DataTable[Text] = DataTable(id=name, cursor_type="row", zebra_stripes=True)
                table.add_columns(*((heading, heading) for heading in headings))
                yield table
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begins to look."""
        self.query_one("#queues").focus()
        self.set_interval(self._every, self.look)
        self.look()

    def look(self) -> None:
        """Looks again, unless the last look is still under way."""
        if not self._looking:
            self._looking = True
            self._look()

    @work(thread=True)
    def _look(self) -> None:
        try:
            found, trouble = glimpse(self._broker), ""
        except TaskqError as error:
            found, trouble = None, str(error)
        if not get_current_worker().is_cancelled:
            try:
                self.call_from_thread(self._seen, found, trouble)
            except NoMatches:  # it ended meanwhile, and took its tables down
                return

    def _seen(self, found: Glimpse | None, trouble: str) -> None:
        self._looking = False
        if found is None:
            self._away_since = self._away_since or time.time()
            since = datetime.fromtimestamp(self._away_since).astimezone()
            trouble = f"Redis away since {since:%H:%M:%S}; this is what was seen before. {trouble}"
        else:
            self._away_since = None
            self._show(found)
            if found.failures is None:
                trouble = "The database cannot be asked: failures, periodic tasks and outboxes are not shown."
        banner = self.query_one("#trouble", Static)
        banner.update(trouble)
        banner.display = bool(trouble)

    def _show(self, found: Glimpse) -> None:
        self._rates.add(found)
        self._past.append(self._rates.by_queue[""].ended if self._rates.by_queue else 0.0)
        self.query_one(Sparkline).data = list(self._past)
        self.query_one("#summary", Static).update(summary(found, self._rates, self._broker))
        self._fill("queues", rows.of_queues(found, self._rates))
        self._fill("workers", rows.of_workers(found))
        self._fill("running", rows.of_running(found))
        self._fill("failures", rows.of_failures(found))

    def _fill(self, name: str, found: Iterable[Row]) -> None:
        """Cell by cell where the rows are the same; otherwise anew, with the cursor where it was."""
        table, wanted = cast("DataTable[Text]", self.query_one(f"#{name}", DataTable)), list(found)
        table.display = bool(wanted) or name == "queues"
        keys = [row.key for row in wanted]
        before = [str(row.key.value) for row in table.ordered_rows]
        if keys != before:
            chosen = before[table.cursor_row] if 0 <= table.cursor_row < len(before) else None
            table.clear()
            for row in wanted:
                table.add_row(*row.cells, key=row.key)
            if chosen in keys:
                table.move_cursor(row=keys.index(chosen), animate=False)
            return
        columns = list(table.columns)
        for row in wanted:
            for column, cell in zip(columns, row.cells, strict=True):
                if table.get_cell(row.key, column) != cell:
                    table.update_cell(row.key, column, cell, update_width=True)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """?"""
        self.push_screen(Help())

    def action_pause(self) -> None:
        """P"""
        self._ask(Inspector(self._broker).pause, "Queue {} is paused.", "Queue {} was paused before.")

    def action_resume(self) -> None:
        """R"""
        self._ask(Inspector(self._broker).resume, "Queue {} is resumed.", "Queue {} was not paused.")

    def _ask(self, request: Callable[[str], bool], done: str, otherwise: str) -> None:
        table = self.query_one("#queues", DataTable)
        if table.row_count:
            self._request(request, str(table.ordered_rows[table.cursor_row].key.value), done, otherwise)

    @work(thread=True)
    def _request(self, request: Callable[[str], bool], queue: str, done: str, otherwise: str) -> None:
        try:
            text, refused = (done if request(queue) else otherwise).format(queue), False
        except TaskqError as error:
            text, refused = str(error), True
        self.call_from_thread(self.notify, text, severity="error" if refused else "information", markup=False)
        self.call_from_thread(self.look)


def summary(found: Glimpse, rates: Rates, broker: Broker) -> Text:
    """One line about all of it."""
    queues, rate = found.seen.queues, rates.by_queue.get("")
    ready, held = sum(queue.ready for queue in queues), sum(queue.running for queue in queues)
    parts = [f"{broker.connections.location.display}", f"{ready:,} ready", f"{held:,} running"]
    if rate is not None:
        parts.append(f"{rate.ended:,.1f} ended/s, {rate.failed:,.1f} failed/s")
    parts.append(f"{len(found.seen.workers) or 'no'} task process{'es' * (len(found.seen.workers) != 1)}")
    if found.seen.lag:
        parts.append(f"{found.seen.lag:,} outcomes wait for the database")
    if found.seen.paused_tasks:
        parts.append(f"paused tasks: {', '.join(found.seen.paused_tasks)}")
    if broken := [breaker.name for breaker in found.seen.breakers if breaker.state != "closed"]:
        parts.append(f"open circuit breakers: {', '.join(broken)}")
    return rows.shown("  ·  ".join(parts), longest=300)
