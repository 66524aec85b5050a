"""Training configuration, and the learning rate of each optimizer step and each d."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType

from d90.errors import D90Error, unknown_name

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
PRECISIONS = ("auto", "no", "bf16")

ADDED = ("average_last", "stop_hopeless")
"""Fields that older versions do not have: in an identity only where they are given."""

NO_RESULT = ("gradient_checkpointing", "log_with")
"""Fields that change no result, or by rounding alone: they are in no study's identity."""

MAX_COUNT = 2**31 - 1
"""Of epochs, optimizer steps and examples: torch counts in 64 bits, also their products."""

EXPONENTS = {"adam": 0.5, "adamw": 0.5, "sgd": 1.0}
REFERENCE_D = 200
"""How the subspace learning rate of each optimizer depends on d: `subspace_learning_rate`."""


@dataclass(frozen=True)
class TrainConfig:
    """How runs are trained; the learning rate and the seed of each are arguments of `train`.

    Attributes:
        optimizer: a key of `OPTIMIZERS`, with torch's defaults (SGD without momentum).
        epochs: passes over the training split.
        max_steps: optimizer steps; overrides `epochs`.
        batch_size: examples per forward pass.
        gradient_accumulation_steps: forward passes per optimizer step, whose loss is the mean over
            all their examples.
        warmup_ratio: fraction of the steps over which the learning rate rises linearly from 0; it
            then falls linearly to 0.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        weight_decay: of the optimizer.
        precision: `no`, `bf16` (autocast), or `auto`: bf16 if the hardware supports it
            (`has_bf16`).
        average_last: at the end, replace the parameters by their mean over this last fraction of
            the steps, above 0; None for no average.
        stop_hopeless: end a run in a subspace after half of its steps if it predicts one class only
            there and after a quarter of them; full fine-tuning never ends so.
        patience: stop after so many epochs without improvement; None to disable.
        gradient_checkpointing: recompute the activations inside the layers in the backward pass:
            less memory, a third more time, the same result up to rounding.
        log_with: a tracker of accelerate, such as `tensorboard` (under `runs/`), or None.
    """

    optimizer: str = "adam"
    epochs: int = 4
    max_steps: int | None = None
    batch_size: int = 32
    gradient_accumulation_steps: int = 1
    warmup_ratio: float = 0.06
    max_grad_norm: float | None = 1.0
    weight_decay: float = 0.0
    precision: str = "auto"
    average_last: float | None = None
    stop_hopeless: bool = False
    patience: int | None = None
    gradient_checkpointing: bool = False
    log_with: str | GeneralTracker | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if isinstance(self.log_with, str) and self.log_with not in LoggerType.list():
            raise unknown_name("log_with", self.log_with, LoggerType.list())
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise D90Error(
                f"max_grad_norm {self.max_grad_norm}: a number above 0, or None, is expected."
            )
        if not 0 <= self.warmup_ratio < 1:
            raise D90Error(f"warmup_ratio {self.warmup_ratio}: a fraction below 1 is expected.")
        if self.average_last is not None and not 0 < self.average_last <= 1:
            raise D90Error(
                f"average_last {self.average_last}: a fraction of the steps is expected, above 0 "
                "and at most 1."
            )
        for name in (
            "epochs",
            "max_steps",
            "batch_size",
            "gradient_accumulation_steps",
            "patience",
        ):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_COUNT:
                raise D90Error(
                    f"{name} {value}: a whole number of at least 1 (and below 2^31) is expected."
                )

    @property
    def autocast(self) -> str:
        """`precision` with `auto` resolved for this machine: `no` or `bf16`."""
        if self.precision != "auto":
            return self.precision
        return "bf16" if has_bf16() else "no"

    def for_baseline(self) -> TrainConfig:
        """How full fine-tuning is trained by default: with AdamW, no mean and to the end."""
        return replace(
            self, optimizer="adamw", weight_decay=0.01, average_last=None, stop_hopeless=False
        )

    def to_dict(self) -> dict[str, float | str | None]:
        """The fields by name, without those of `NO_RESULT`; those of `ADDED` only where given.

        So the trials of a d90 that had no such field are those of one that does not use it.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NO_RESULT}
        return {name: value for name, value in values.items() if name not in ADDED or value}


def check_learning_rate(learning_rate: float) -> None:
    """Raises: D90Error: not a number from 1e-30 to 1e30."""
    if not 1e-30 <= learning_rate <= 1e30:
        raise D90Error(
            f"learning_rate {learning_rate}: a number above 0 (1e-30 to 1e30) is expected."
        )


def subspace_learning_rate(
    learning_rate: float, d: int | None, *, optimizer: str = "adam"
) -> float:
    """The optimizer's learning rate for z: `learning_rate * (200 / d)^exponent`.

    One `learning_rate` then moves a tensor equally far at every d, and is the optimizer's own at
    d = 200:

    * Adam changes each entry of z by about its learning rate, and so moves a tensor whose columns
      of P have unit norm by about that times sqrt(d): the exponent is 1/2.
    * SGD changes z by its learning rate times P^T g, and so theta by that times P P^T g. The trace
      of P P^T is d, over D rows: on average it is d / D of the step -g of full fine-tuning, so the
      exponent is 1.

    Measured, with Adam (`docs/results`): 0.008 is within 0.006 of the best of five rates at
    d = 100, 1,000 and 10,000, and within one standard error of it at d = 10.

    Args:
        learning_rate: as the user gives it.
        d: dimension of the subspace; None for full fine-tuning, whose rate is not normalized.
        optimizer: a key of `OPTIMIZERS`.
    """
    if d is None:
        return learning_rate
    return learning_rate * (REFERENCE_D / d) ** EXPONENTS[optimizer]


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """The fraction of the peak learning rate at optimizer step `step` of 0..steps-1.

    Linear from 0 (excluded) to 1 over the first `warmup * steps` steps, then linear to 0
    (excluded).

    >>> [round(learning_rate_factor(step, 10, 0.2), 3) for step in range(10)]
    [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    """
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return (steps - step) / (steps - rise)


def has_bf16() -> bool:
    """Whether the GPU, or the CPU if there is none, multiplies bf16 natively.

    A CPU that emulates bf16 is faster in float32.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
