"""What a sentence asks of the tiny model: shape, colour, background and motion, read from its words. No torch.

The words of motion are those with which the training clips were described (`clips.py` takes them from here); the others are the
judge's.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from wanlab.tiny.detector import BACKGROUNDS, COLORS, SHAPES, detect
from wanlab.tiny.motion import FEWEST_FRAMES

# The first phrase of each motion is the canonical one.
MOTIONS = {
    "left": ("moves left", "moving to the left", "slides left"),
    "right": ("moves right", "moving to the right", "slides right"),
    "up": ("moves up", "moving up", "rises"),
    "down": ("moves down", "moving down", "falls"),
    "bounce": ("bounces", "bouncing up and down", "is bouncing"),
    "grow": ("grows", "growing bigger", "gets bigger"),
    "shrink": ("shrinks", "shrinking", "gets smaller"),
    "spin": ("spins", "spinning", "rotates"),
    "orbit": ("moves in a circle", "moving in a circle", "orbits"),
    "still": ("stays still", "standing still", "does not move"),
}


def asked(prompt: str) -> dict[str, str]:
    """What a prompt asks for, by the names of the judge's findings; what it leaves open, or says in other words, is not there.

    >>> asked("a small red circle moves in a circle on a gray background")
    {'motion': 'orbit', 'background': 'gray', 'shape': 'circle', 'color': 'red'}
    """
    text = " ".join(re.findall(r"[a-z]+", prompt.lower()))
    found = {}
    for motion, phrases in MOTIONS.items():
        for phrase in phrases:
            if re.search(rf"\b{phrase}\b", text):
                found["motion"] = motion
                text = re.sub(rf"\b{phrase}\b", "", text)  # the circle in which something moves is not its shape
    places = {
        "background": rf"\b({'|'.join(BACKGROUNDS)}) background\b",
        "shape": rf"\b({'|'.join(SHAPES)})\b",
        "color": rf"\b({'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})\b",
    }
    for name, pattern in places.items():
        if place := re.search(pattern, text):
            found[name] = place[1]
    return found


def prompt_score(frames: NDArray[np.uint8], prompt: str) -> float | None:
    """Which part of what a prompt asks for the judge sees in the clip, from 0 to 1; None if it asks for nothing known.

    Of clips that are too short to tell a motion it is not asked.
    """
    wanted = asked(prompt)
    if len(frames) < FEWEST_FRAMES:
        wanted.pop("motion", None)
    if not wanted:
        return None
    seen = detect(frames)
    return sum(getattr(seen, name) == word for name, word in wanted.items()) / len(wanted)
