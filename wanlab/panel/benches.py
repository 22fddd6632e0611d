"""The benches of a panel: the lab's own, and one for the model that the panel asks for instead."""

from __future__ import annotations

import threading
from pathlib import Path

from wanlab.bench import Bench
from wanlab.errors import ModelError
from wanlab.model.finding import described
from wanlab.settings import ModelSettings
from wanlab.weights.registry import find_known


class Benches:
    """Finds the bench for settings of the model. The lab keeps its own, whatever is asked for here."""

    def __init__(self, own: Bench) -> None:
        self.own, self._other = own, own
        self._finding = threading.Lock()

    def of(self, model: ModelSettings) -> Bench:
        """A bench to plan with; nothing is downloaded or loaded. Raises ModelError for what cannot be found here."""
        with self._finding:
            for bench in (self.own, self._other):
                if bench.settings == model:
                    return bench
            self._other = Bench(self.own.folder, model, None if _is_here(model) else described(model))
            return self._other

    def ready(self, model: ModelSettings) -> Bench:
        """A bench to run with: files that are missing are downloaded, and the weights of the other model are let go first."""
        bench = self.of(model) if _is_here(model) else None
        for other in (self.own, self._other):
            if other is not bench and "model" in other.__dict__:
                other.model.unload()
        if bench is None:
            bench = Bench(self.own.folder, model)
            with self._finding:
                self._other = bench
        return bench


def _is_here(model: ModelSettings) -> bool:
    """Whether this model lies on this machine; ModelError if it may be on the hub, where nobody has looked yet."""
    name = model.model
    if name in ("tiny", "tiny-i2v") or Path(name).expanduser().exists():
        return True
    if find_known(name) is not None:
        return False
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        raise ModelError(
            f"model is {name!r}; nothing of it is here, so it cannot be planned. Fetch it with wl.Lab(folder, model={name!r})."
        )
    return True  # and the bench says what is wrong with it
