"""How much work waits for the model: whether texts queue up. Pure, but for the call when they no longer do."""

from collections.abc import Callable

QUEUE_S = 0.5
"""Texts queue up when the model needs longer than this for all that it has not finished."""
SMOOTHING_TEXTS = 64


class ModelLoad:
    """Records without an outcome, times what a text took lately; `on_calm` is called when texts cease to queue up."""

    def __init__(self, model_slots: int, on_calm: Callable[[], None]) -> None:
        self._model_slots, self._on_calm = model_slots, on_calm
        self._unfinished = 0
        self._text_s = 0.0
        """What a text took of a model slot, smoothed."""
        self.is_queueing = False

    def add(self, records: int) -> None:
        """So many records were fetched."""
        self._unfinished += records
        self._judge()

    def finish(self, records: int, model_s: float | None = None) -> None:
        """So many have an outcome, or will have none; `model_s`: what each took of a model slot, if it got there."""
        self._unfinished -= records
        if model_s is not None:
            self._text_s += (model_s - self._text_s) / SMOOTHING_TEXTS
        self._judge()

    def _judge(self) -> None:
        was_queueing = self.is_queueing
        self.is_queueing = self._unfinished * self._text_s > QUEUE_S * self._model_slots
        if was_queueing and not self.is_queueing:
            self._on_calm()
