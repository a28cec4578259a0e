"""Progress of one step on stderr: a bar with rate and time left on a terminal, one log line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

log = logging.getLogger("curate.progress")


class Progress:
    """Counts parts and rows of a step while it runs.

    Args:
        name: the step.
        total: parts in all; ``done`` of them were finished by an earlier run.
        show: draw or log; ``False`` is silent.
    """

    def __init__(self, name: str, *, total: int, done: int = 0, show: bool = True) -> None:
        self.name, self.total, self.done, self.show = name, total, done, show
        self.rows = 0
        self._started = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        if self.show and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("[bold]{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=self.total, completed=self.done, rate="")
        return self

    def advance(self, rows: int = 0) -> None:
        """One more part is done, with this many rows."""
        self.done += 1
        self.rows += rows
        if self._bar is not None:
            self._bar.update(self._task, advance=1, rate=self._rate())

    def _rate(self) -> str:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return f"{self.rows / seconds:,.0f} rows/s" if self.rows else ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.show and kind is None:
            seconds = time.perf_counter() - self._started
            log.info("%-12s %d/%d parts  %.1f s  %s", self.name, self.done, self.total, seconds, self._rate())
