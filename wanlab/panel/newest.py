"""Answers to the newest question only: while one is worked on, those that come are forgotten but for the last. No torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from wanlab import aside

Question = TypeVar("Question")


class Newest(Generic[Question]):
    """Calls `answer(question)` in a thread that lives while there are questions, and `rested()` when none came for a while."""

    def __init__(self, answer: Callable[[Question], None], rested: Callable[[], None], rest: float = 0.5) -> None:
        self._answer, self._rested, self._rest = answer, rested, rest
        self._asked = threading.Condition()
        self._questions: list[Question] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, question: Question) -> None:
        """Answer this as soon as possible, and no longer any that was asked before."""
        with self._asked:
            if self._closed:
                return
            self._questions = [question]
            self._asked.notify_all()
            if self._thread is None:
                self._thread = aside.start(self._loop, "wanlab plan", self._stop)

    @property
    def superseded(self) -> bool:
        """Whether a newer question waits: what is still to be found out for the present one is not wanted any more."""
        with self._asked:
            return bool(self._questions)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all is answered and rested; False if that takes longer."""
        with self._asked:
            return self._asked.wait_for(lambda: self._thread is None, seconds)

    def close(self) -> None:
        """Answer no more, and wait for the answer that is being worked on."""
        self._stop()
        with self._asked:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _stop(self) -> None:
        with self._asked:
            self._closed = True
            self._questions.clear()
            self._asked.notify_all()

    def _loop(self) -> None:
        while True:
            with self._asked:
                question = self._questions.pop() if self._questions else None
            if question is not None:
                self._answer(question)
                continue
            with self._asked:
                self._asked.wait_for(lambda: self._closed or self._questions, self._rest)
                if self._questions:
                    continue
                closed = self._closed
            if not closed:
                self._rested()
            with self._asked:
                if self._questions:
                    continue
                self._thread = None
                self._asked.notify_all()
                return
