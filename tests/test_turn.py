"""A model's turn: runs of one thread nest, another thread is refused at once, and can wait until it is free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from wanlab.errors import BusyError
from wanlab.turn import Turn


def elsewhere(work: Callable[[], Any]) -> Any:
    """What the work returns or raises in another thread."""
    found: list[Any] = []

    def caught() -> None:
        try:
            found.append(work())
        except BusyError as error:
            found.append(error)

    thread = threading.Thread(target=caught)
    thread.start()
    thread.join()
    return found[0]


def take(turn: Turn) -> str:
    with turn.taken():
        return "taken"


def test_one_thread_may_take_it_within_itself() -> None:
    turn = Turn()
    with turn.taken(), turn.taken():
        assert turn.free()
    assert elsewhere(lambda: take(turn)) == "taken"


def test_another_thread_is_refused_until_the_outermost_has_ended() -> None:
    turn = Turn()
    with turn.taken():
        with turn.taken():
            pass
        assert isinstance(elsewhere(lambda: take(turn)), BusyError)
        assert elsewhere(turn.free) is False
    assert elsewhere(turn.free) is True
    assert elsewhere(lambda: take(turn)) == "taken"


def test_it_is_given_back_after_an_error() -> None:
    turn = Turn()
    with pytest.raises(ZeroDivisionError), turn.taken():
        raise ZeroDivisionError
    assert elsewhere(lambda: take(turn)) == "taken"


def test_a_generator_that_another_thread_closes_gives_it_back() -> None:
    turn = Turn()

    def work() -> Any:
        with turn.taken():
            yield 1

    events = work()
    next(events)
    elsewhere(events.close)
    assert elsewhere(lambda: take(turn)) == "taken"


def test_who_waits_is_told_when_it_is_free() -> None:
    turn, waiting, found = Turn(), threading.Event(), list[bool]()

    def wait() -> None:
        waiting.set()
        found.append(turn.free(60))

    with turn.taken():
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(60)
    thread.join()
    assert found == [True]
