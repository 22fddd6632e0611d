"""ComfyUI: its workflows read into settings, and runs written as workflows. No torch.

`from_comfy` reads the files of its editor and of its server, and the pictures and videos that carry one; `to_comfy` writes.
What each node's inputs become is declared in the tables (`tables.py`), of which docs/comfyui.md is made.
"""

from __future__ import annotations

from wanlab.comfy.result import Entry, FromComfy
from wanlab.comfy.taking import from_comfy
from wanlab.comfy.writing import Workflow, to_comfy

__all__ = ["Entry", "FromComfy", "Workflow", "from_comfy", "to_comfy"]
