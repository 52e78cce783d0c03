"""The hot loop, compiled by Numba: the same numbers as `derivatives`, faster, for graphs that are plain chains."""
