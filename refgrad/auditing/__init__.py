"""Checking a network's values and Jacobians against somebody else's."""
