"""An accelerate tracker for tests."""

from __future__ import annotations

from accelerate.tracking import GeneralTracker


class ListTracker(GeneralTracker):
    """Keeps everything that is logged."""

    name = "list"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.config: dict = {}
        self.lines: list[tuple[int | None, dict]] = []

    @property
    def tracker(self) -> list:
        return self.lines

    def store_init_configuration(self, values: dict) -> None:
        self.config = values

    def log(self, values: dict, step: int | None = None, **_: object) -> None:
        self.lines.append((step, values))
