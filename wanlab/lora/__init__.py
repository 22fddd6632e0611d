"""LoRA files: small changes to a transformer's weights, read from any of the layouts in which they are shared.

keys      names in a file -> parameters of the transformer (no torch)
deltas    the tensors of a file -> the change of each parameter
apply     several files with their strengths: check, merge into weights, attach to a transformer
live      changes that are computed beside the weights, so that their strength can change while running
report    what was matched, what was not, and how large each change is
"""
