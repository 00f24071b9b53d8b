"""Progress in a terminal, drawn by rich. Imported only when there is something to draw."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table
from rich.text import Text


def _unbroken() -> Column:
    """Keeps its line whole where the terminal is narrow, so that the bar gives way."""
    return Column(no_wrap=True)


class _Speed(TransferSpeedColumn):
    """Nothing where a transfer was over before it had a speed."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.finished_speed or task.speed else Text()


_DESCRIPTION: Final = TextColumn("{task.description}", markup=False, table_column=_unbroken())
_STATUS: Final[tuple[ProgressColumn, ...]] = (_DESCRIPTION, SpinnerColumn(finished_text=""))
#: What stands beside the description, the most important first, and the columns each may take.
_AMOUNTS: Final[tuple[tuple[ProgressColumn, int], ...]] = (
    (TaskProgressColumn(table_column=_unbroken()), 5),
    (BarColumn(), 5),
    (DownloadColumn(table_column=_unbroken()), 14),
    (_Speed(table_column=_unbroken()), 11),
    (TimeRemainingColumn(table_column=_unbroken()), 8),
)
#: A description is cut to no fewer columns than this to tell more of the amount.
_SHORTEST: Final = 20
#: Columns left free, for the ^C that a terminal shows must not break a line.
_MARGIN: Final = 2


class TerminalProgress(AbstractContextManager["TerminalProgress"]):
    """Lines that stay below each other in the order in which their steps began."""

    def __init__(self, console: Console) -> None:
        self._lines = _Lines(console=console)
        self._status: Task | None = None
        self._transfers: dict[str, TaskID] = {}

    def __enter__(self) -> TerminalProgress:
        self._lines.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_status()
        self._lines.stop()

    def status(self, text: str) -> None:
        if self._status is not None and self._status.description == text:
            return
        self._end_status()
        task = self._lines.add_task(text, total=None, transfer=False)
        self._status = self._lines.tasks[self._lines.task_ids.index(task)]

    def transfer(self, key: str, label: str, completed: int, total: int) -> None:
        if self._status is not None and self._status.description == label:
            # The step turns out to have an amount.
            self._lines.remove_task(self._status.id)
            self._status = None
        self._end_status()
        if key not in self._transfers:
            self._transfers[key] = self._lines.add_task(label, total=total, transfer=True)
        self._lines.update(self._transfers[key], completed=completed, total=total)

    def _end_status(self) -> None:
        if self._status is not None:
            self._lines.update(self._status.id, total=1, completed=1)
            self._status = None


def terminal_progress() -> TerminalProgress | None:
    """None for a terminal in which nothing can move, such as TERM=dumb or TTY_INTERACTIVE=0."""
    console = Console(stderr=True)
    return TerminalProgress(console) if console.is_interactive else None


class _Lines(Progress):
    """Rich's progress, with columns by the kind of line and the width of the terminal."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for transfer, group in groupby(self.tasks, key=lambda task: bool(task.fields["transfer"])):
            tasks = list(group)
            columns = self._transfer_columns(tasks) if transfer else _STATUS
            cells = [column.get_table_column().copy() for column in columns]
            cells[0].max_width = max(self._width - _least(columns), 1)
            grid = Table.grid(*cells, padding=(0, 1))
            for task in tasks:
                grid.add_row(*(column(task) for column in columns))
            yield Padding(grid, (0, _MARGIN, 0, 0), expand=False)

    @property
    def _width(self) -> int:
        return self.console.width - _MARGIN

    def _transfer_columns(self, tasks: list[Task]) -> tuple[ProgressColumn, ...]:
        """The description, the percentage, and of the rest as much as there is room for."""
        longest = max(cell_len(task.description) for task in tasks)
        columns: tuple[ProgressColumn, ...] = (_DESCRIPTION, _AMOUNTS[0][0])
        for column, _ in _AMOUNTS[1:]:
            if min(longest, _SHORTEST) + _least((*columns, column)) > self._width:
                break
            columns = (*columns, column)
        return columns


def _least(columns: tuple[ProgressColumn, ...]) -> int:
    """Columns of the terminal that all but the description need."""
    widths = dict(_AMOUNTS)
    return sum(widths.get(column, 2) for column in columns[1:])
