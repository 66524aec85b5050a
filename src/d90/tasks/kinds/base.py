"""What a kind of task asks of a model: all that training, evaluation and adapters know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d90.errors import D90Error, unknown_name
from d90.search.criteria import short_reference
from d90.tasks.tables import (
    Table,
    Tables,
    find_label_column,
    find_text_columns,
    read_texts,
)
from d90.tasks.task import Split
from d90.tasks.tokens import PaddingSpec, TokenizedSplit, collate, encode_texts, padding_values

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class BatchPredictions(NamedTuple):
    """What a model predicts on a batch; nothing has been read from the device.

    Attributes:
        values: the prediction of each row, of the kind's `value_dtype`, shape (rows,).
        losses: the sum over the rows of each of the kind's `losses`, float32, shape (losses,).
        is_finite: whether every output is finite, shape ().
    """

    values: Tensor
    losses: Tensor
    is_finite: Tensor


@dataclass(frozen=True)
class Predictions:
    """Predictions of the rows of a split.

    Attributes:
        values: of each row, in the order of the batches.
        losses: mean of each of the kind's `losses`, over what `Kind.count` counts.
    """

    values: list[Any]
    losses: Mapping[str, float]


class Kind(ABC):
    """A kind of task, with what one task of it has of its own: frozen, and picklable.

    The default methods are for texts under a classification head of transformers.

    Attributes:
        name: key in `KINDS`.
        needs: what its data must have, for errors.
        label: what a label is called, in errors.
        metrics: every metric, by name; the first is the default.
        criteria: the smooth criteria whose skills `skills` gives (`d90.search.criteria`).
        losses: names of the losses that `predict` sums, one or more.
        label_dtype: of the labels, in 64 bits.
        reference: what the best constant predictor, or what else the floor is of, is called.
        collapse: what a model that `has_collapsed` does.
        evaluation_factor: how many times as large evaluation batches are: they keep no activations.
        starts_from_model: whether the floor may be the pretrained model's (`from_initial`).
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    label: ClassVar[str]
    metrics: ClassVar[Mapping[str, Any]]
    criteria: ClassVar[tuple[str, ...]] = ()
    losses: ClassVar[tuple[str, ...]]
    label_dtype: ClassVar[torch.dtype] = torch.int64
    reference: ClassVar[str]
    collapse: ClassVar[str]
    evaluation_factor: ClassVar[int] = 4
    starts_from_model: ClassVar[bool] = False

    # The data, before anything is tokenized.

    @classmethod
    def columns(
        cls, table: Table, texts: Sequence[str] | None, label: str | None
    ) -> tuple[tuple[str, ...], str]:
        """The columns of the texts and of the labels: those given, otherwise found by name.

        Raises:
            D90Error: a given column does not exist, or none is found.
        """
        return find_text_columns(table, texts), find_label_column(table, label)

    @classmethod
    @abstractmethod
    def fits(cls, tables: Tables, column: str) -> bool:
        """Whether labels of this column are those of this kind, by the training split."""

    @classmethod
    @abstractmethod
    def read(cls, tables: Tables, column: str) -> tuple[tuple[str, ...], list[list[Any]]]:
        """The names of the classes, if there are any, and the labels of each of `tables.all()`.

        Raises:
            D90Error: a label is missing or no label of this kind.
        """

    @classmethod
    def read_texts(
        cls, table: Table, columns: Sequence[str], rows: Sequence[int]
    ) -> tuple[tuple[str, ...], ...]:
        """The texts of the given rows.

        Raises:
            D90Error: a value is missing or no text.
        """
        return read_texts(table, columns, rows)

    @classmethod
    def options(cls, labels: Sequence[Any]) -> dict[str, str]:
        """What a task keeps of its training labels besides the names of the classes."""
        return {}

    @classmethod
    def given_options(
        cls, metric: str | None, given: Mapping[str, str], usual: Mapping[str, str]
    ) -> dict[str, str]:
        """What a task keeps of the options that a user gives.

        Args:
            metric: that the user gives.
            given: by name.
            usual: those of a named task, where none is given.

        Raises:
            D90Error: one is not of this kind, or not of this metric.
        """
        if given:
            raise D90Error(
                f"{', '.join(given)}: for tasks of generation, and this one is of {cls.name}."
            )
        return {}

    @classmethod
    @abstractmethod
    def of(cls, labels: tuple[str, ...], options: Mapping[str, str]) -> Kind:
        """The kind of a task, from the names of its classes and its `options`.

        Raises:
            D90Error: they are not as `read` and `options` give them.
        """

    @property
    def available_metrics(self) -> tuple[str, ...]:
        """The names of the metrics that are defined for this task."""
        return tuple(self.metrics)

    def check_metric(self, metric: str | None) -> str:
        """Validate a metric for this task, and return it; the default if None.

        Raises:
            D90Error: unknown metric.
        """
        metric = next(iter(self.metrics)) if metric is None else metric
        if metric not in self.available_metrics:
            raise unknown_name("metric", metric, self.available_metrics)
        return metric

    @abstractmethod
    def constant_score(self, metric: str, labels: Sequence[Any]) -> float:
        """The score of the best constant predictor, or of what else the floor is of."""

    def reference_of(self, metric: str) -> str:
        """What `constant_score` is the score of."""
        return self.reference

    @property
    def initial_scores(self) -> Mapping[str, float]:
        """The scores of the pretrained model on the primary split, where the floor needs them."""
        return {}

    @classmethod
    def short_reference(cls) -> str:
        """`reference` in one word.

        >>> from d90.tasks import KINDS
        >>> KINDS["classification"].short_reference()
        'majority'
        """
        return short_reference(cls.reference)

    # The model.

    def on(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase | None = None,
        longest: int | None = None,
    ) -> Kind:
        """The kind for a model of transformers.

        Args:
            model: as loaded.
            tokenizer: of the model; needed where texts are decoded.
            longest: how many tokens the model takes.
        """
        return self

    def from_train(self, split: TokenizedSplit) -> Kind:
        """The kind, given the training split.

        Raises:
            D90Error: it cannot be scored by what the task asks for.
        """
        return self

    def from_initial(
        self, split: TokenizedSplit, labels: Sequence[Any], predicted: Predictions
    ) -> Kind:
        """The kind, given what the pretrained model predicts on the primary split.

        Args:
            split: the primary split.
            labels: of its examples, in the order of the predictions.
            predicted: with the parameters of theta_0.
        """
        return self

    @property
    @abstractmethod
    def model_options(self) -> Mapping[str, Any]:
        """Arguments of `d90.models.loading.load` that decide the head."""

    @property
    def merged_config(self) -> Mapping[str, Any]:
        """What the configuration of a plain checkpoint keeps besides its head's."""
        return {}

    # Training and evaluation.

    def padding(self, tokenizer: PreTrainedTokenizerBase) -> Mapping[str, int]:
        """The padding value of each column of `encode`."""
        return padding_values(tokenizer)

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, name: str, max_length: int
    ) -> TokenizedSplit:
        """Tokenize a split.

        Raises:
            D90Error: an example without tokens.
        """
        return encode_texts(tokenizer, split, name, max_length, label_dtype=self.label_dtype)

    def collate(
        self, padding: PaddingSpec, split: TokenizedSplit, rows: Sequence[int], device: torch.device
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The inputs of `loss` and `predict` for these rows, and their labels."""
        return collate(padding, split, rows, device)

    @abstractmethod
    def loss(self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """The sum of the loss over a batch, whose `count` divides it; shape ()."""

    def count(self, split: TokenizedSplit, rows: Sequence[int]) -> int:
        """What the loss of these rows is a sum of: their number."""
        return len(rows)

    def logit_positions(self, split: TokenizedSplit) -> int:
        """How many positions of an example have logits, at most; 0 where they take no memory."""
        return 0

    @property
    @abstractmethod
    def constant_loss(self) -> float:
        """The mean loss of a constant prediction, about: a larger one may have diverged."""

    @property
    @abstractmethod
    def value_dtype(self) -> torch.dtype:
        """Of the values of `predict`."""

    @abstractmethod
    def predict(
        self, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor
    ) -> BatchPredictions:
        """What the model predicts on a batch."""

    @abstractmethod
    def score(self, metric: str, labels: Sequence[Any], values: Sequence[Any]) -> float:
        """A metric of predictions."""

    def scores(self, labels: Sequence[Any], predicted: Predictions) -> dict[str, float]:
        """Every metric of this task, and the mean losses, by name."""
        metrics = {m: self.score(m, labels, predicted.values) for m in self.available_metrics}
        return {**metrics, **predicted.losses}

    def skills(self, labels: Sequence[Any], predicted: Predictions) -> dict[str, float]:
        """The skill score of each of `criteria` that is defined for these labels."""
        return {}

    @abstractmethod
    def has_collapsed(self, values: Sequence[Any], score: float) -> bool:
        """Whether predictions with this score are as good as constant."""

    # Adapters: predictions of single examples.

    @abstractmethod
    def interpret(self, logits: Tensor) -> NDArray[np.float64]:
        """What logits mean, shape (rows, outputs) of both: probabilities, or numbers."""

    @abstractmethod
    def answers(self, outputs: NDArray[np.float64]) -> list[Any]:
        """The predictions, as `score` takes them, from what `interpret` gives."""

    @abstractmethod
    def to_row(self, outputs: Sequence[float]) -> dict[str, Any]:
        """The prediction of one example as `d90 predict` writes it."""
