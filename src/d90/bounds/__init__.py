"""From bits to bounds on the error of a classifier: pure functions in float64, no torch."""

from d90.bounds.binary_kl import binary_kl, inverse_binary_kl
from d90.bounds.occam import occam_hoeffding, occam_kl, theorem_1
from d90.bounds.pac_bayes import pac_bayes_kl, universal_divergence

__all__ = [
    "binary_kl",
    "inverse_binary_kl",
    "occam_hoeffding",
    "occam_kl",
    "pac_bayes_kl",
    "theorem_1",
    "universal_divergence",
]
