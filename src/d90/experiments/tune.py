"""Train one adapter for a model and a task: the flow of `d90 tune`.

problem -> training -> parameters -> codec -> adapter
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from d90.adapters import (
    Adapter,
    BaseModelInfo,
    CodebookCodec,
    Codec,
    TaskInfo,
    UniformCodec,
    new_adapter,
    public_name,
)
from d90.adapters.codecs import FloatArray
from d90.adapters.fingerprint import fingerprint
from d90.adapters.quantize import MAX_BITS, Candidate, candidates, encode_at_bits
from d90.distributed.process_group import get_process_group
from d90.errors import D90Error
from d90.executors.base import OnProgress
from d90.experiments.problem import Problem
from d90.search.protocols.base import LARGEST_SEED, check_integers, check_rates
from d90.search.trial import Trial, TrialResult
from d90.subspace import Subspace, attach
from d90.training import train
from d90.training.config import MAX_COUNT
from d90.training.evaluation import predict_split
from d90.utils.digest import text_digest

AUTO = "auto"
CHECKPOINT_EVERY = 100
"""Optimizer steps between checkpoints, whose size is a few times d."""

BITS = ("32", "16", *(str(bits) for bits in range(1, MAX_BITS + 1)))
TOLERANCE = 0.005
"""Largest drop of the metric that `bits="auto"` accepts."""


@dataclass(frozen=True)
class CodecTrial:
    """A codec that was evaluated.

    Attributes:
        name: of the codec, such as `levels (8)`.
        size: bytes of the adapter's file.
        metric: of the model with the decoded parameters.
        kept: whether the metric is within the tolerance.
    """

    name: str
    size: int
    metric: float
    kept: bool


@dataclass(frozen=True)
class CodecChoice:
    """The chosen adapter, its metric, and the codecs that were tried, smallest first."""

    file: Adapter
    metric: float
    tried: tuple[CodecTrial, ...]


class AdapterTuner:
    """Trains a model in a subspace and encodes the result as an adapter.

    Args:
        problem: from `load_problem`.
        d: number of trained parameters.
        learning_rate: normalized in d (`d90.training`).
        seed: of the projection, data order and dropout.
        qat_epochs: epochs of quantization-aware training for each quantized codec.

    Raises:
        D90Error: an argument out of its range.

    Attributes:
        trial: d, learning rate and seed of the run.
        result: of training; None before `train`.
    """

    def __init__(
        self, problem: Problem, *, d: int, learning_rate: float, seed: int = 0, qat_epochs: int = 0
    ) -> None:
        check_run(d, learning_rate, seed)
        problem.check_dims([d])
        runner = problem.runner
        self.problem, self.qat_epochs = problem, qat_epochs
        self.trial = Trial(d, learning_rate, seed)
        self.model, self.data = runner.model, runner.measured_data
        self.config = runner.config_for(d)
        self.result: TrialResult | None = None
        self.base = BaseModelInfo(
            name=public_name(problem.model_name),
            revision=getattr(self.model.config, "_commit_hash", None) or "",
            fingerprint=fingerprint(self.model),
            D=problem.D,
            head_seed=runner.head_seed,
            dtype=str(self.model.dtype).removeprefix("torch."),
        )
        self.process_group = get_process_group()
        self.accelerator = Accelerator(mixed_precision=self.config.autocast)
        self.model.to(runner.device)
        self.subspace: Subspace = attach(
            self.model, **replace(problem.subspace, d=d, seed=seed).to_dict()
        )

    @property
    def metric_name(self) -> str:
        return self.data.metric

    def checkpoint_folder(self, output: Path) -> Path:
        """Folder for checkpoints, beside the output; different runs have different folders."""
        problem, subspace = self.problem, self.subspace.config
        content = (self.base.fingerprint, subspace, problem.task.digest(), problem.max_length)
        digest = text_digest(repr(content))[:8]
        return output.with_name(f".{output.name}.{digest}.run")

    def train(
        self, *, folder: Path | None = None, on_progress: OnProgress | None = None
    ) -> Adapter:
        """Train, and return the adapter of the best epoch in float32.

        Raises:
            D90Error: training diverged or was stopped before its first evaluation.
        """
        result = train(
            self.model,
            self.data,
            self.config,
            learning_rate=self.trial.learning_rate,
            seed=self.trial.seed,
            d=self.trial.d,
            on_progress=on_progress,
            checkpoint_dir=folder,
            checkpoint_every=CHECKPOINT_EVERY,
            keep_best=True,
        )
        self.result = result
        if result.metric is None:
            remedy = "another" if result.status == "stopped" else "a lower"
            raise D90Error(
                f"training {result.status} {result.message}: give {remedy} learning rate."
            )
        task = self.problem.task
        use = TaskInfo(
            name=public_name(task.name),
            text_columns=tuple(task.text_columns),
            labels=tuple(task.labels),
            max_length=self.problem.max_length,
            metric=self.metric_name,
            metric_value=self.metric_of(self.parameters),
            kind=task.kind,
            options=task.options,
        )
        return new_adapter(self.parameters, self.subspace.config, self.base, use, m=self.subspace.m)

    @property
    def parameters(self) -> FloatArray:
        """The current z, followed by lam in SAID: float32, shape (d,)."""
        parts = [self.subspace.z, *([] if self.subspace.lam is None else [self.subspace.lam])]
        return np.concatenate([part.detach().float().cpu().numpy() for part in parts])

    @torch.no_grad()
    def set_parameters(self, parameters: FloatArray) -> None:
        """Set z and lam to the values of `parameters`, shape (d,)."""
        values = torch.from_numpy(parameters.copy())
        self.subspace.z.copy_(values[: len(self.subspace.z)])
        if self.subspace.lam is not None:
            self.subspace.lam.copy_(values[len(self.subspace.z) :])

    def metric_of(self, parameters: FloatArray) -> float:
        """The metric of the model with these parameters, on the primary evaluation split."""
        self.set_parameters(parameters)
        split = self.data.evaluation[self.data.primary]
        batch_size = self.data.kind.evaluation_factor * self.config.batch_size
        labels, predicted = predict_split(
            self.model, self.data, split, batch_size, self.accelerator, self.process_group
        )
        return self.data.kind.scores(labels, predicted)[self.metric_name]

    def choose_codec(
        self,
        file: Adapter,
        bits: str = AUTO,
        *,
        tolerance: float = TOLERANCE,
        on_try: Callable[[Candidate, CodecTrial], None] | None = None,
    ) -> CodecChoice:
        """Encode the parameters in fewer bits.

        Args:
            file: from `train`, in float32.
            bits: `auto` for the smallest adapter whose metric drops by at most `tolerance`; or 32,
                16, or 1 to 7 bits per parameter with a k-means codebook.
            tolerance: in units of the metric, such as 0.005 for half a point of accuracy.
            on_try: called with each codec that was tried.

        Raises:
            D90Error: `bits` is invalid, or the codec cannot encode the parameters.
        """
        least = file.task.metric_value - tolerance
        tried: list[CodecTrial] = []
        for candidate in self._candidates(file, bits):
            adapter = self._refined(candidate, file)
            metric = self.metric_of(adapter.parameters)
            adapter = replace(adapter, task=replace(file.task, metric_value=metric))
            # Ties of floating point: 0.8 - 0.005 may round above 0.795.
            kept = metric >= least - 1e-9
            tried.append(CodecTrial(candidate.name, len(adapter.to_bytes()), metric, kept))
            if on_try is not None:
                on_try(candidate, tried[-1])
            if kept or bits != AUTO:
                return CodecChoice(adapter, metric, tuple(tried))
        raise AssertionError("float32 loses nothing")

    def _candidates(self, file: Adapter, bits: str) -> Sequence[Candidate]:
        return candidates(file) if bits == AUTO else (encode_at_bits(file, int(bits)),)

    def _refined(self, candidate: Candidate, file: Adapter) -> Adapter:
        """The adapter in the codec of a candidate, after quantization-aware training if any."""
        grid = _grid(candidate.codec)
        if not self.qat_epochs or grid is None:
            return candidate.adapter
        self.set_parameters(file.parameters)
        config = replace(self.config, epochs=self.qat_epochs, max_steps=None)
        with _rounded(self.subspace, grid):
            train(
                self.model,
                self.data,
                config,
                learning_rate=self.trial.learning_rate,
                seed=self.trial.seed,
                d=self.trial.d,
                keep_best=True,
            )
        return replace(file, parameters=self.parameters).with_codec(candidate.codec)


def check_run(d: int, learning_rate: float, seed: int) -> None:
    """Check the arguments of a fine-tune, before anything is loaded.

    Raises:
        D90Error: an argument is out of its range.
    """
    check_integers("d", [d], at_least=1)
    check_rates("learning_rate", [learning_rate])
    check_integers("seed", [seed], at_least=0, at_most=LARGEST_SEED)


def check_choice(bits: str, tolerance: float, qat_epochs: int) -> None:
    """Check the arguments of `AdapterTuner.choose_codec`, before anything is trained.

    Raises:
        D90Error: an argument is out of its range.
    """
    if bits != AUTO and bits not in BITS:
        raise D90Error(f"bits '{bits}': expected auto, 32, 16, or from 1 to {MAX_BITS}.")
    if not 0 <= tolerance <= 1:
        raise D90Error(f"tolerance {tolerance}: expected a number from 0 to 1, such as 0.005.")
    if not 0 <= qat_epochs <= MAX_COUNT:
        raise D90Error(f"qat_epochs {qat_epochs}: expected 0 or more (and less than 2^31).")


class FakeQuantize(nn.Module):
    """Round to the values of a codec, with the gradient of the identity (straight-through).

    Source: Bengio, Leonard and Courville 2013, Section 4.

    Args:
        levels: the values to round to, ascending; a single one stands for its multiples.
        shift: subtracted before rounding and added afterwards.
    """

    levels: Tensor

    def __init__(self, levels: Tensor, shift: float) -> None:
        super().__init__()
        self.shift = shift
        self.register_buffer("levels", levels, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x rounded; same shape and dtype."""
        rounded = self._round(x.detach() - self.shift) + self.shift
        return x + (rounded - x.detach())

    def _round(self, x: Tensor) -> Tensor:
        if len(self.levels) == 1:
            return torch.round(x / self.levels) * self.levels
        midpoints = (self.levels[1:] + self.levels[:-1]) / 2
        return self.levels[torch.bucketize(x, midpoints)]


def _grid(codec: Codec) -> Tensor | None:
    """The levels of a codec, or its step; None for a floating-point codec."""
    if isinstance(codec, CodebookCodec):
        return torch.tensor(sorted(codec.levels), dtype=torch.float16).float().unique()
    if isinstance(codec, UniformCodec):
        return torch.tensor([codec.step])
    return None


@contextmanager
def _rounded(subspace: Subspace, levels: Tensor) -> Iterator[None]:
    """Within the context, z and lam - 1 are rounded in each forward pass."""
    parts = {"z": 0.0} if subspace.lam is None else {"z": 0.0, "lam": 1.0}
    for name, shift in parts.items():
        part = FakeQuantize(levels.to(subspace.z), shift)
        parametrize.register_parametrization(subspace, name, part, unsafe=True)
    try:
        yield
    finally:
        for name in parts:
            parametrize.remove_parametrizations(subspace, name, leave_parametrized=False)
