"""Which blocks are swapped: so many of them, evenly among the others. No torch, since plans ask it too."""

from __future__ import annotations

from wanlab.errors import SettingsError


def spread(blocks: int, swapped: int) -> tuple[int, ...]:
    """Which blocks to swap: so many of them, evenly spaced. SettingsError if there are not that many.

    >>> spread(8, 3)
    (1, 4, 6)
    """
    if not 0 <= swapped <= blocks:
        raise SettingsError(f"blocks_to_swap is {swapped}; this model has {blocks} blocks, so it must be 0 to {blocks}.")
    return tuple((2 * i + 1) * blocks // (2 * swapped) for i in range(swapped))  # int((i + 1/2) M / N)
