"""Storing the weights of the blocks in fewer bits: the kinds, packing and unpacking, the Linear that holds them, the report."""
