"""The hot loop, compiled by Numba: the same numbers as `derivatives`, faster, for plain chains and those in other graphs."""
