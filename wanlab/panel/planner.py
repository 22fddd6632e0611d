"""Plans what a panel says: at once the steps, then bytes and seconds, which are measured where that takes a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from wanlab import aside
from wanlab.bench import Bench
from wanlab.cost.memory import DENOISE
from wanlab.panel.benches import Benches
from wanlab.panel.newest import Newest
from wanlab.panel.told import cost_told, plan_told
from wanlab.plans import PlannedRun
from wanlab.run import check_run
from wanlab.settings import ModelSettings, Settings
from wanlab.timeline import Timeline

# Seconds of a call by its operations. On a CPU it may take 20 times as long, and a few blocks of it still no more than seconds.
_QUICK = 0.2


class Asked(NamedTuple):
    """Settings to plan, the number of the question, and up to which change a view's own count is answered by it."""

    number: int
    seen: int
    settings: Settings
    model: ModelSettings


class Planner:
    """Plans in a thread of its own, always what was asked last.

    `asked` gives the question as it is now, `say` tells the browser, `failed` hears of errors, `idle` says whether nothing is
    to be run, and `rested` is called when no question came for a while.

    What the peak of a CPU promises is many times too quick, so there one block is measured as soon as the settings have come
    to rest, unless it is large. A GPU may be somebody else's, and waits until a person asks for it (`measure`).
    """

    def __init__(
        self,
        benches: Benches,
        asked: Callable[[], Asked],
        say: Callable[..., None],
        failed: Callable[[Exception], None],
        idle: Callable[[], bool],
        rested: Callable[[], None],
    ) -> None:
        self._benches, self._asked, self._say, self._failed, self._idle = benches, asked, say, failed, idle
        self._over = rested
        self._newest = Newest(self._answer, self._rest)
        self._tried: ModelSettings | None = None
        self._measuring: threading.Thread | None = None
        self.planned: PlannedRun | None = None

    def ask(self) -> None:
        """Plan the settings as they are now."""
        self._newest.ask(False)

    def measure(self) -> None:
        """Measure one block of the model on this machine, then plan."""
        self._newest.ask(True)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all is answered and has come to rest; False if that takes longer."""
        while self._newest.wait(seconds):
            measuring = self._measuring
            if measuring is None or not measuring.is_alive():
                return True
            measuring.join(seconds)
        return False

    def close(self) -> None:
        """Plan no more, and wait for the plan that is being made."""
        self._newest.close()
        measuring = self._measuring
        if measuring is not None:
            measuring.join()

    def _answer(self, measure: bool) -> None:
        """Plan the newest settings: first the steps, which is quick, then bytes and seconds. Measure before, if asked."""
        asked = self._asked()
        try:
            bench, timeline = self._benches.of(asked.model), Timeline(asked.settings)
            check_run(bench, timeline)
            if measure:
                with bench.model.turn.taken():
                    bench.calibrate(asked.settings)
            planned = bench.outlined(timeline)
            self._say(plan={"number": asked.number, "seen": asked.seen, **plan_told(planned)})
            if not self._newest.superseded:
                self._cost(asked, bench, planned)
        except Exception as error:  # in a thread nobody else would see it
            if not self._newest.superseded:
                self._failed(error)

    def _cost(self, asked: Asked, bench: Bench, outlined: PlannedRun) -> None:
        """Tell the bytes and seconds of a plan."""
        self.planned = bench.costed(outlined)
        if self.planned.estimate is not None:
            told = cost_told(self.planned.estimate)
            self._say(cost={"number": asked.number, "here": bench.device_is_here, **told})

    def _rest(self) -> None:
        """The settings have come to rest: measure once, where that is quick and nothing else computes."""
        asked, planned = self._asked(), self.planned
        if planned is not None and asked.model != self._tried and _is_quick(planned, asked.model) and self._idle():
            self._tried = asked.model
            # A thread of its own, so that a change that comes meanwhile is planned at once.
            self._measuring = aside.start(partial(self._measure, asked), "wanlab measuring")
        self._over()

    def _measure(self, asked: Asked) -> None:
        """Measure one block; without the model's turn, so that no cell is refused for what nobody asked for."""
        try:
            bench = self._benches.of(asked.model)
            if not bench.model.turn.free():
                self._tried = None  # a cell computes; at the next rest then
            elif bench.calibrate(asked.settings):
                self.ask()
        except Exception as error:  # in a thread nobody else would see it, and it costs nobody anything
            self._say(notice=f"How long a block takes could not be measured: {error}")


def _is_quick(planned: PlannedRun, model: ModelSettings) -> bool:
    """Whether seconds of this plan are not measured, and measuring them on the CPU takes a moment."""
    estimate, calls = planned.estimate, planned.model_calls
    if estimate is None or estimate.calibrated or not calls or torch.device(model.load_device).type != "cpu":
        return False
    return model.compile is None and estimate.seconds[DENOISE] / calls < _QUICK
