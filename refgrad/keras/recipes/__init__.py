"""The table of how ops are written: one recipe each, by kind in the modules beside."""

from __future__ import annotations

from collections.abc import Mapping

from refgrad.keras.recipes import activating, merging, operating, scaling
from refgrad.keras.recipes.step import Recipe

RECIPES: Mapping[str, Recipe] = {
    **scaling.RECIPES,
    **activating.RECIPES,
    **merging.RECIPES,
    **operating.RECIPES,
}
"""Name of an op → the Keras layers, or bare operations, that compute it.

A source is no layer that is called: it is written as an input.
"""
