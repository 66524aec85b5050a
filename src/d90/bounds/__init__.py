"""From bits to bounds on the error of a classifier: pure functions in float64."""

from d90.bounds.occam import finite_hypotheses

__all__ = ["finite_hypotheses"]
