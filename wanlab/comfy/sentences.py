"""Reasons that several boxes share. No torch."""

from __future__ import annotations

WAITING = "It says where something waits, not what comes out; wanlab decides that with force_offload and placement."
ENCODER = "It is about how the text encoder is loaded, which wanlab does in base_precision."
COMPILER = "wanlab leaves this to torch.compile's own choice."
AUDIO = "wanlab makes clips without sound."
TALKING = "Clips that follow a voice are not made."
POSES = "Control by poses, depth or another video is not made."
NO_MASK = "Masks for parts of a picture are not made."
ALL_STEPS = "It acts on all steps here."
ONE_BATCH = "A run makes one clip; give other seeds for more."
WRITING = "wanlab chooses the encoder's quality itself: high for mp4 and webm, lossless for webp."
