"""Sweeps: many runs that differ in a few settings, planned as a whole, run with what they share, read as one table.

`axes` says which settings take which values, `cells` makes settings of these and checks them, `made` finds cells in the log,
`plan` counts before anything runs, `board` knows how all of it stands, `running` runs, `results` and `grids` read, `keeping`
writes a sweep down, `file` reads a sweep.toml.
"""
