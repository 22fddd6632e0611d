"""Where weights lie while they are not used, and how they come to the device for the moment in which they are.

layout      one buffer for all tensors of a block
masters     where the bytes stay: host memory or a file
parked      a module whose tensors point at its master, or into a buffer on the device
copiers     how bytes get from a master into a buffer on the device
spread      which blocks are swapped
swap        block swap: few buffers on the device that many blocks take turns in
moving      small modules for their own forward, whole parts for a stage of a run
timeline    what each block waited, copied and computed, as a table and a drawing
"""
