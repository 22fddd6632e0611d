"""Notebook faces: self-contained pages of HTML that play clips, compare them, put them in a grid, scrub through a denoising.

They take plain arrays and strings and know nothing of runs or models. A page works without a kernel, without the
internet, and on plain http; where scripts are stripped it stays a still picture with its table.

>>> import numpy as np
>>> player([Tile(np.zeros((17, 64, 64, 3), np.uint8), "nothing yet")])
Player of "nothing yet": 17 frames of 64x64, 16 a second.
"""

from wanlab.document import Shown
from wanlab.show.grid import Cell, grid_page
from wanlab.show.page import Page
from wanlab.show.player import MOST_CLIPS, Mode, Tile, player
from wanlab.show.steps import Curve, Denoising, denoising_page, steps_page

__all__ = [
    "MOST_CLIPS",
    "Cell",
    "Curve",
    "Denoising",
    "Mode",
    "Page",
    "Shown",
    "Tile",
    "denoising_page",
    "grid_page",
    "player",
    "steps_page",
]
