"""Fine-tuning runs, in full or in a subspace: the parameters that require grad are trained.

Nothing depends on how a run got to where it is. Data order, dropout and learning rate are functions
of the seed and the step, so a run that resumes from a checkpoint ends with the same bits as one
that was never interrupted (on one device, with one number of threads).
"""

from d90.training.config import (
    OPTIMIZERS,
    PRECISIONS,
    TrainConfig,
    learning_rate_factor,
    subspace_learning_rate,
)
from d90.training.cost import estimate_seconds
from d90.training.trainer import Progress, train

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "Progress",
    "TrainConfig",
    "estimate_seconds",
    "learning_rate_factor",
    "subspace_learning_rate",
    "train",
]
