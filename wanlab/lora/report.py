"""What became of LoRA files: which names were used and which not, their ranks, and how large their changes are.

A LoRA that "loads" and does nothing is the most common way to lose an afternoon, and one that is far too strong for a few
blocks the second: so every name is accounted for, and the size of a change is shown beside that of the weights, block by
block.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas

from wanlab.document import Shown, esc, table_html
from wanlab.lora import keys
from wanlab.show.plan import GRAY

if TYPE_CHECKING:
    from torch import Tensor

    from wanlab.lora.apply import Lora, LoraSet
    from wanlab.lora.forms import Delta
    from wanlab.show.drawing import Drawing

ENOUGH = 0.9  # of a file's names; fewer is worth a warning
_SHOWN = 12
OUTSIDE = "outside"


@dataclass(frozen=True, eq=False)
class Entry:
    """Names of a file that belong together, and what became of them: `state` is why they are not used, "" if they are.

    `parameter` is the one that they change, "" where they mean none.
    """

    lora: Lora
    keys: tuple[str, ...]
    parameter: str
    state: str
    delta: Delta | None

    @property
    def used(self) -> bool:
        """Whether they change the model."""
        return not self.state

    @property
    def matched(self) -> bool:
        """Whether they would change the model, were it not for `blocks`."""
        return self.used or self.state.startswith("not in")

    @property
    def wrong_shape(self) -> bool:
        """Whether their shape is not that of the parameter."""
        return self.state.startswith("wrong shape")


@dataclass(frozen=True, eq=False)
class Report(Shown):
    """What a model takes of LoRA files."""

    loras: Sequence[Lora]
    entries: Sequence[Entry]

    @property
    def matched(self) -> tuple[str, ...]:
        """The names in the files that change the model (or would, in other blocks)."""
        return self._names(lambda entry: entry.matched)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The names that mean nothing to this model."""
        return self._names(lambda entry: not entry.matched and not entry.wrong_shape)

    @property
    def wrong_shape(self) -> tuple[str, ...]:
        """The names of changes whose shape is not that of the parameter."""
        return self._names(lambda entry: entry.wrong_shape)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each file of which too little is used."""
        found = []
        for lora in self.loras:
            own = [entry for entry in self.entries if entry.lora is lora]
            share = _count(own, lambda entry: entry.matched) / max(1, _count(own, lambda entry: True))
            if share < ENOUGH:
                reasons = sorted({entry.state.partition(":")[0] for entry in own if not entry.matched})
                found.append(f"Only {share:.0%} of the names in {lora.file.path.name} fit this model ({'; '.join(reasons)}).")
        return tuple(found)

    def summary(self) -> pandas.DataFrame:
        """A row for each LoRA: strength, blocks, names that are used and not, ranks and alphas."""
        rows = []
        for lora in self.loras:
            own = [entry for entry in self.entries if entry.lora is lora]
            deltas = [entry.delta for entry in own if entry.matched and entry.delta]
            rows.append(
                {
                    "lora": lora.file.path.name,
                    "strength": _strength(lora),
                    "blocks": lora.blocks,
                    "how": "merged" if lora.merge else "live",
                    "used": _count(own, lambda entry: entry.used),
                    "unmatched": _count(own, lambda entry: not entry.matched and not entry.wrong_shape),
                    "wrong shape": _count(own, lambda entry: entry.wrong_shape),
                    "kinds": _listed(delta.kind for delta in deltas),
                    "ranks": _listed(delta.rank for delta in deltas if delta.rank is not None),
                    "alphas": _listed(delta.alpha for delta in deltas if delta.rank is not None),
                }
            )
        return pandas.DataFrame(rows)

    def table(self) -> pandas.DataFrame:
        """A row for each change and for each name that is none: what it changes, and why it is not used."""
        rows = [
            {
                "lora": entry.lora.file.path.name,
                "names": ", ".join(entry.keys),
                "parameter": entry.parameter,
                "kind": entry.delta.kind if entry.delta else "",
                "rank": entry.delta.rank if entry.delta else None,
                "alpha": entry.delta.alpha if entry.delta else None,
                "not used": entry.state,
            }
            for entry in self.entries
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        counts = f"{len(self.matched)} names matched, {len(self.unmatched)} not, {len(self.wrong_shape)} of a wrong shape"
        return " ".join([f"LoRAs: {counts}.", *self.warnings])

    def _repr_html_(self) -> str:
        left = [(", ".join(entry.keys), [entry.state]) for entry in self.entries if not entry.matched]
        more = [(f"... and {len(left) - _SHOWN} more", [""])] if len(left) > _SHOWN else []
        warnings = "".join(f"<p>{esc(sentence)}</p>" for sentence in self.warnings)
        return warnings + _html(self.summary()) + table_html([*left[:_SHOWN], *more], folded="names that are not used")

    def _names(self, wanted: Callable[[Entry], bool]) -> tuple[str, ...]:
        return tuple(key for entry in self.entries if wanted(entry) for key in entry.keys)


@dataclass(frozen=True, eq=False)
class Sizes(Shown):
    """How large changes are beside the weights they change: ||s D|| / ||W||, for each LoRA and block."""

    rows: Sequence[Mapping[str, Any]]

    def table(self) -> pandas.DataFrame:
        """A row for each LoRA and block. `relative` is at the strength that is farthest from 0."""
        return pandas.DataFrame(self.rows, columns=["lora", "block", "parameters", "change", "weight", "relative"])

    def show(self) -> Drawing:
        """A bar for each block, side by side for the LoRAs."""
        from wanlab.show.drawing import drawing, plain

        figure = drawing(7.5, 3)
        axes = figure.subplots()
        table = self.table()
        places = {block: place for place, block in enumerate(table["block"].unique())}
        groups = list(table.groupby("lora", sort=False))
        width = 0.8 / max(1, len(groups))
        for index, (name, own) in enumerate(groups):
            left = [places[block] + (index + 0.5) * width - 0.4 for block in own["block"]]
            axes.bar(left, own["relative"], 0.9 * width, label=_plain(str(name)))
        axes.set_xticks(list(places.values()), [_short(block) for block in places], fontsize=8)
        axes.set_xlabel("block", color=GRAY)
        axes.set_ylabel("size of the change / of the weights", color=GRAY, fontsize=9)
        if places:
            axes.legend(frameon=False, labelcolor=GRAY, fontsize=9)
        plain(axes)
        return figure

    def _repr_html_(self) -> str:
        from wanlab.show.drawing import svg

        return svg(self.show()) + _html(self.table())


def measure(loras: LoraSet, weights: Callable[[str], Tensor | None]) -> Sizes:
    """How large changes are. `weights` gives a parameter by diffusers' name, as it is without LoRAs; None: there is none."""
    sums: dict[tuple[int, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for live in (False, True):
        for index, name, delta in loras.changes(live):
            weight = weights(name)
            if weight is None or weight.numel() != math.prod(delta.shape):
                continue
            block = keys.block_of(name)
            row = sums[index, f"{block[0]}.{block[1]}" if block else OUTSIDE]
            row[0] += 1
            row[1] += float((loras.loras[index].strongest * delta.weight(weight.detach())).square().sum())
            row[2] += float(weight.detach().float().square().sum())
    order = {name: place for place, name in enumerate(sorted({name for _, name in sums}, key=_place))}
    rows = []
    for (index, place), (count, change, size) in sorted(sums.items(), key=lambda item: (item[0][0], order[item[0][1]])):
        rows.append(
            {
                "lora": f"{index + 1}: {loras.loras[index].file.path.name}",
                "block": place,
                "parameters": int(count),
                "change": math.sqrt(change),
                "weight": math.sqrt(size),
                "relative": math.sqrt(change / size) if size else math.nan,
            }
        )
    return Sizes(rows)


def _place(block: str) -> tuple[int, int]:
    kind, _, number = block.partition(".")
    return (("blocks", "vace_blocks", OUTSIDE).index(kind), int(number or 0))


def _short(block: str) -> str:
    return block.replace("vace_blocks.", "v").replace("blocks.", "")


def _plain(text: str) -> str:
    """Text for a legend: matplotlib leaves out what begins with "_", and reads formulas between "$"."""
    return text.replace("$", r"\$")


def _count(entries: Sequence[Entry], wanted: Callable[[Entry], bool]) -> int:
    return sum(len(entry.keys) for entry in entries if wanted(entry))


def _strength(lora: Lora) -> str:
    values = lora.strength if isinstance(lora.strength, tuple) else (lora.strength,)
    return ", ".join(f"{value:g}" for value in values)


def _listed(values: Any) -> str:
    found = sorted(set(values), key=lambda value: (value is None, value if value is not None else 0))
    shown = ["none" if value is None else f"{value:g}" if isinstance(value, int | float) else value for value in found]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")


def _html(table: pandas.DataFrame) -> str:
    rows = table.to_numpy().tolist()
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    return table_html([(row[0], row[1:]) for row in cells], list(table.columns[1:]))
