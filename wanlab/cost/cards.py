"""Cards people have: memory, arithmetic, bandwidth. And this machine. No torch.

Figures are those of NVIDIA's data sheets and architecture whitepapers (Ada: "NVIDIA Ada GPU Architecture" v2, appendix
A; data sheets of A100, L40S, H100 SXM and H200; RTX Blackwell whitepaper): dense bf16 with sums in fp32, without
sparsity. `attained` is which part of it published runs of Wan reach in plain diffusers or the authors' code
(performance.md: RTX 4090 66 to 75 %, A100 37 to 63 %, H100 35 to 45 %). `link_gb` is what PCIe carries from pinned
memory, measured figures and not the nominal 32 and 64: 25 GB/s by x16 of generation 4, 50 by generation 5, half of it
by x8.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wanlab.errors import SettingsError

PAGEABLE = 0.12  # part of the link that memory which is not pinned gets: about 3 of 25 GB/s (ComfyUI-WanVideoWrapper #1375)


@dataclass(frozen=True)
class Card:
    """A device to compute on.

    `memory_gib` is what a program can have of it; `bf16_tflops` dense bf16 peak, of which `attained` is reached;
    `memory_gb` bandwidth of its own memory and `link_gb` of the way from the host, in GB/s. `capability` is CUDA's, (0,
    0) for a CPU.
    """

    name: str
    memory_gib: float
    bf16_tflops: float
    attained: float
    memory_gb: float
    link_gb: float
    capability: tuple[int, int]

    @property
    def fp8(self) -> bool:
        """Whether it multiplies in fp8."""
        return self.capability >= (8, 9)

    @property
    def cpu(self) -> bool:
        """Whether it is no GPU."""
        return self.capability == (0, 0)

    @property
    def flops(self) -> float:
        """Arithmetic that is reached, in operations a second; a multiply-add is two."""
        return self.bf16_tflops * self.attained * 1e12


def _by_name(*cards: Card) -> Mapping[str, Card]:
    return MappingProxyType({card.name: card for card in cards})


CARDS = _by_name(
    Card("RTX 4060", 8, 30, 0.65, 272, 12.5, (8, 9)),
    Card("RTX 3060", 12, 25, 0.65, 360, 25, (8, 6)),
    Card("RTX 4070", 12, 58, 0.65, 504, 25, (8, 9)),
    Card("RTX 4080", 16, 97, 0.6, 717, 25, (8, 9)),
    Card("RTX 3090", 24, 71, 0.75, 936, 25, (8, 6)),
    Card("RTX 4090", 24, 165, 0.66, 1008, 25, (8, 9)),
    Card("RTX 5090", 32, 209, 0.66, 1792, 50, (12, 0)),
    Card("L40S", 48, 362, 0.45, 864, 25, (8, 9)),
    Card("A100 80GB", 80, 312, 0.5, 2039, 25, (8, 0)),
    Card("H100", 80, 989, 0.38, 3350, 50, (9, 0)),
    Card("H200", 141, 989, 0.38, 4800, 50, (9, 0)),
)


def card(name: str) -> Card:
    """The card of this name, in any case. Raises SettingsError with the names there are.

    >>> card("rtx 4090").memory_gib
    24
    """
    found = next((one for one in CARDS.values() if one.name.lower() == name.strip().lower()), None)
    if found is None:
        raise SettingsError(f"There is no card {name!r} in the table; give one of {', '.join(CARDS)}, or a size in device_gib.")
    return found


def card_for(gib: float) -> Card:
    """A usual card with this much memory: the fastest of the largest size that is no larger; with less than 8 GiB the smallest.

    Its memory is the given one.
    """
    fitting = [one for one in CARDS.values() if one.memory_gib <= gib + 1] or [CARDS["RTX 4060"]]
    largest = max(one.memory_gib for one in fitting)
    found = max((one for one in fitting if one.memory_gib == largest), key=lambda one: one.flops)
    return Card(found.name, gib, found.bf16_tflops, found.attained, found.memory_gb, found.link_gb, found.capability)


def this_machine() -> Card:
    """This machine's CPU and memory. Its arithmetic is a rough guess: cores times clock times 16 multiply-adds of fp32."""
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    try:
        clock = psutil.cpu_freq()
    except (OSError, NotImplementedError):  # not told on some systems
        clock = None
    gigahertz = (clock.max or clock.current) / 1000 if clock and (clock.max or clock.current) else 2.5
    memory = psutil.virtual_memory().total / 2**30
    return Card("this machine", memory, cores * gigahertz * 32 / 1000, 0.5, 20, 8, (0, 0))
