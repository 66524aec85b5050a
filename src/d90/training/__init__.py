"""One training run, full fine-tuning and subspace tuning alike: it trains what wants a gradient.

Nothing depends on how a run got to where it is. Data order, dropout and learning rate are functions
of the seed and of the step alone, so a run that goes on from a checkpoint ends with the same bits
as one that was never stopped (on one device, with one number of threads).
"""

from d90.training.config import (
    OPTIMIZERS,
    PRECISIONS,
    TrainConfig,
    learning_rate_factor,
    subspace_learning_rate,
)
from d90.training.cost import Progress, estimate_seconds, train
from d90.training.state import Outcome

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "Outcome",
    "Progress",
    "TrainConfig",
    "estimate_seconds",
    "learning_rate_factor",
    "subspace_learning_rate",
    "train",
]
