"""The hot loop, compiled by Numba: the numbers of `derivatives`, faster, for plain chains and those in other graphs."""
