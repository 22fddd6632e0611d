"""The settings of techniques: groups that are off until one of their settings, or their switch, is given. No torch.

What a technique does is in `techniques/`, one file each. Here is what can be known of it without a model: its settings, on
which steps it acts, whether it remembers earlier steps, and what it cannot go together with (`conflicts`).
"""

from wanlab.groups.base import GATES, Group, PartSettings, check_frames, latent
from wanlab.groups.cache import CacheSettings
from wanlab.groups.conflicts import conflicts
from wanlab.groups.context import ContextSettings
from wanlab.groups.feta import FetaSettings
from wanlab.groups.guidance import ApgSettings, CfgZeroSettings, NagSettings, SlgSettings
from wanlab.groups.long import FreeInitSettings, LoopSettings, RiflexSettings

__all__ = [
    "GATES",
    "ApgSettings",
    "CacheSettings",
    "CfgZeroSettings",
    "ContextSettings",
    "FetaSettings",
    "FreeInitSettings",
    "Group",
    "LoopSettings",
    "NagSettings",
    "PartSettings",
    "RiflexSettings",
    "SlgSettings",
    "check_frames",
    "conflicts",
    "latent",
]
