"""Values and derivatives of a graph, as the chain rule has them: the reference that all else is compared with."""
