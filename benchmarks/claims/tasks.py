"""Models and tasks of the studies, each task with a training in which full fine-tuning converges.

The epochs and the rates of the baseline were chosen by full fine-tuning of bert-tiny alone,
whose best evaluation is not that of the last epoch, or whose last are within 0.003. No d90 was
looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_EVAL_SAMPLES = 1000


@dataclass(frozen=True)
class ModelSettings:
    """A model as the studies train it.

    Attributes:
        model: as `d90 measure` takes it.
        max_train_samples: of any task.
        baseline_learning_rates: of full fine-tuning.
        precision: of training.
    """

    model: str
    max_train_samples: int
    baseline_learning_rates: tuple[float, ...]
    precision: str

    @property
    def options(self) -> tuple[str, ...]:
        """Of `d90 measure`."""
        return (
            f"--max-train-samples={self.max_train_samples}",
            f"--baseline-learning-rates={','.join(map(str, self.baseline_learning_rates))}",
            f"--precision={self.precision}",
        )


@dataclass(frozen=True)
class TaskSettings:
    """A task as the studies train it, on at most `MAX_EVAL_SAMPLES` evaluation examples.

    Attributes:
        task: as `d90 measure` takes it.
        epochs: passes over the training examples.
    """

    task: str
    epochs: int

    @property
    def options(self) -> tuple[str, ...]:
        """Of `d90 measure`."""
        return (f"--epochs={self.epochs}", f"--max-eval-samples={MAX_EVAL_SAMPLES}")


MODELS: Mapping[str, ModelSettings] = {
    "bert-tiny": ModelSettings("models/bert-tiny", 6000, (3e-4, 1e-3), "no"),
    "minilm-l6": ModelSettings("minilm-l6", 3000, (1e-4, 3e-4), "bf16"),
}

TASKS: Mapping[str, TaskSettings] = {
    "sst2": TaskSettings("data/sst2", 3),
    "wordnet-supersense": TaskSettings("wordnet-supersense", 4),
    "emotion": TaskSettings("data/emotion", 5),
    "clinc150": TaskSettings("data/clinc150", 10),
    "wordnet-hypernym": TaskSettings("wordnet-hypernym", 3),
    "yelp": TaskSettings("data/yelp_sample", 3),
    "mrpc": TaskSettings("data/mrpc", 10),
}
"""From short to long."""
