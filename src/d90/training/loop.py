"""The training loop that fine-tuning and pretraining share."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from d90.distributed.gradients import GradientSync
from d90.distributed.process_group import ProcessGroup
from d90.errors import D90Error
from d90.rng import philox
from d90.subspace import hold
from d90.training.checkpoint import load_checkpoint, save_checkpoint
from d90.training.config import TrainConfig, check_learning_rate, learning_rate_factor
from d90.utils.reading import check_fields, check_keys

_DROPOUT_BLOCK = 2**40 + 1  # Blocks of the data stream from here on: no epoch reaches them.


StateT = TypeVar("StateT", bound="LoopState")


@dataclass
class LoopState:
    """What a run carries from one optimizer step to the next, besides its tensors.

    Attributes:
        step: optimizer steps done.
        seconds: of earlier sessions.
    """

    step: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls: type[StateT], values: Any) -> StateT:
        """The state that `to_json` gave.

        Raises:
            D90Error: a value is missing or of another type.
        """
        return cls(**check_fields(cls, values, "run"))


class TrainingLoop(ABC, Generic[StateT]):
    """Optimizer, learning-rate schedule, dropout seeding, clipping and checkpoints of a run.

    Nothing depends on how a run got to where it is: each step is a function of the weights, the
    optimizer state, the seed and the step.

    Args:
        model: trained in place: its parameters that require grad.
        state: of a run that begins.
        config: how the run is trained.
        optimizer: makes the optimizer from parameters, `lr` and `weight_decay`.
        learning_rate: peak of the schedule.
        own_learning_rates: peaks of parameters that have one of their own, by name, and no weight
            decay.
        seed: of dropout.
        run_name: folder of the tracker's files, under `runs/`.
        process_group: the processes that make the run; only the main one writes and logs.

    Raises:
        D90Error: a learning rate that is not above 0; a tracker that is not installed.
    """

    steps: int
    """Optimizer steps of the whole run; set by the subclass."""

    def __init__(
        self,
        model: nn.Module,
        state: StateT,
        config: TrainConfig,
        *,
        optimizer: Callable[..., torch.optim.Optimizer],
        learning_rate: float,
        own_learning_rates: Mapping[str, float] | None = None,
        seed: int,
        run_name: str,
        process_group: ProcessGroup,
    ) -> None:
        check_learning_rate(learning_rate)
        self.own_learning_rates = dict(own_learning_rates or {})
        self.state, self.config = state, config
        self.learning_rate, self.seed = learning_rate, seed
        self.process_group = process_group
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        # In the order of the optimizer's groups, by which a checkpoint numbers its state.
        trainable.sort(key=lambda item: item[0] in self.own_learning_rates)
        self.parameters = dict(trainable)
        name = f"{run_name}-rate-{learning_rate:g}-seed-{seed}"
        self.accelerator = _accelerator(config, Path("runs") / name)
        self._device = self.accelerator.device
        model.to(self._device).train()
        self._module = model
        self._gradients = GradientSync(self.parameters.values(), process_group)
        self.optimizer = optimizer(
            self._parameter_groups(), lr=learning_rate, weight_decay=config.weight_decay
        )
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._started = perf_counter()

    @abstractmethod
    def _losses(self, step: int) -> Iterator[Tensor]:
        """The loss of each forward pass of an optimizer step; their sum is the loss of the step."""

    @abstractmethod
    def _record(self, loss: float) -> None:
        """Called after an optimizer step, with its loss."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with; JSON values by name."""

    @property
    def num_trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def seconds(self) -> float:
        """Of training and evaluating, earlier sessions included."""
        return self.state.seconds + perf_counter() - self._started

    def optimizer_step(self) -> float:
        """Make one optimizer step and return its loss, in nats.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        step = self.state.step
        # Dropout is seeded at each step, so that no generator state has to be saved.
        seed_dropout(dropout_seed(self.seed, step, self.process_group.rank), self._device)
        factor = learning_rate_factor(step, self.steps, self.config.warmup_ratio)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        if not self._module.training:  # It takes 0.6 ms for twelve layers.
            self._module.train()
        with hold(self._module):
            total = self._backward(self._losses(step))
        max_norm = math.inf if self.config.max_grad_norm is None else self.config.max_grad_norm
        total_norm = clip_grad_norm_(self.parameters.values(), max_norm).to(total.device)
        # The only values that are read from the device in a step.
        loss, norm = torch.stack([total, total_norm]).tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"loss {loss}, gradient norm {norm}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.log({"loss": loss, "learning_rate": self.learning_rate * factor})
        self._record(loss)
        return loss

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Those with the run's learning rate, then one group for each that has its own."""
        own = self.own_learning_rates
        shared = [p for name, p in self.parameters.items() if name not in own]
        return [{"params": shared}] + [
            {"params": [p], "lr": own[name], "weight_decay": 0.0}
            for name, p in self.parameters.items()
            if name in own
        ]

    def _backward(self, losses: Iterator[Tensor]) -> Tensor:
        """Accumulate the gradients of the losses, over all processes; the sum of the losses."""
        total = torch.zeros((), device=self._device)
        for loss in losses:
            self.accelerator.backward(loss)
            total += loss.detach()
        return self._gradients.all_reduce(total)

    def start_trackers(self, values: Mapping[str, Any]) -> None:
        """Start the tracker of the configuration, if any, with the settings of the run."""
        if self._tracks:
            known = {
                k: value for k, value in values.items() if isinstance(value, int | float | str)
            }
            self.accelerator.init_trackers("d90", config=known)

    def log(self, values: Mapping[str, float]) -> None:
        """Send values of the current step to the tracker, if there is one."""
        if self._tracks:
            self.accelerator.log(dict(values), step=self.state.step)

    @property
    def _tracks(self) -> bool:
        return self.config.log_with is not None and self.process_group.is_main_process

    def save(self, file: Path) -> None:
        """Write all that is needed to resume the run, in the main process."""
        if self.process_group.is_main_process:
            state = {**self.state.to_json(), "seconds": self.seconds}
            save_checkpoint(file, self._tensors(), {"identity": self._identity(), "run": state})

    def resume(self, file: Path) -> None:
        """Resume from a checkpoint, if the main process has it.

        Raises:
            D90Error: it is damaged or of another run.
        """
        tensors: dict[str, Tensor] = {}

        def load() -> dict[str, Any] | None:
            checkpoint = load_checkpoint(file, identity=self._identity())
            if checkpoint is None:
                return None
            try:
                run = check_keys(checkpoint[1], {}, ["run"], "state")["run"]
                step = type(self.state).from_json(run).step
                if not 0 <= step <= self.steps:
                    raise D90Error(f"step {step} of {self.steps}")
                self._check_tensors(checkpoint[0])
            except D90Error as error:
                raise D90Error(f"checkpoint '{file}' is damaged ({error}): remove it.") from error
            tensors.update(checkpoint[0])
            return run

        state = self.process_group.broadcast_object(load)
        if state is None:
            return
        self._load_tensors(self.process_group.broadcast_tensors(tensors))
        self.state = type(self.state).from_json(state)

    def _tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds: parameters and optimizer state."""
        tensors: dict[str, Tensor] = {f"parameter.{name}": p for name, p in self.parameters.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = value
        return tensors

    def _check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Check that these are tensors as `_tensors` gives, before one of them is taken over.

        Raises:
            D90Error: one is missing, unknown, or of another shape or dtype.
        """
        own = [f"parameter.{name}" for name in self.parameters]
        names: dict[str, set[str]] = {str(index): set() for index in range(len(own))}
        like = dict(zip([*own, *names], [*self.parameters.values()] * 2, strict=True))
        for key, tensor in tensors.items():
            _, index, name = [*key.split(".", 2), "", ""][:3]
            is_state = key not in own and key.startswith("optimizer.") and index in names
            parameter = like.get(index if is_state else key)
            if parameter is None:
                raise D90Error(f"unknown tensor '{key[:50]}'")
            is_step = is_state and name == "step"
            dtypes = (parameter.dtype, torch.float32) if is_state else (parameter.dtype,)
            if tensor.shape != (() if is_step else parameter.shape) or tensor.dtype not in dtypes:
                raise D90Error(f"{key[:50]} is of shape {tuple(tensor.shape)} in {tensor.dtype}")
            if is_step and not 0 <= float(tensor) <= self.steps:
                raise D90Error(f"{key} is {float(tensor):g}")
            if is_state:
                names[index].add(name)
        missing = [key for key in own if key not in tensors]
        expected = _optimizer_names(self.optimizer)
        missing += [
            f"optimizer.{index}" for index in names if names[index] not in (set(), expected)
        ]
        if missing:
            raise D90Error(f"tensors of {missing[0][:50]} are missing or too many")

    def _load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `_tensors` gave."""
        optimizer_state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "parameter":
                self.parameters[name].data.copy_(tensor)
            elif kind == "optimizer":
                index, _, name = name.partition(".")
                # The optimizer moves them, but Adam's count of steps, which it reads on the CPU.
                optimizer_state.setdefault(int(index), {})[name] = tensor.cpu()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer_state, "param_groups": groups})

    def close(self) -> None:
        """Put the model in evaluation mode and end the tracker."""
        self._module.eval()
        if self._tracks:
            self.accelerator.end_training()


def _optimizer_names(optimizer: torch.optim.Optimizer) -> set[str]:
    """The names of the tensors that an optimizer keeps for each parameter."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    kind: Any = type(optimizer)
    accepted = inspect.signature(kind).parameters
    probe = kind([parameter], **{k: v for k, v in optimizer.defaults.items() if k in accepted})
    probe.step()
    return {name for name, value in probe.state[parameter].items() if value is not None}


def dropout_seed(seed: int, step: int, rank: int = 0) -> int:
    """The seed of torch's generator; another one in each process: rows must not share a mask."""
    return philox.word(seed, philox.Stream.DATA, step, block=_DROPOUT_BLOCK + rank)


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of the device.

    The masks are those after `torch.manual_seed`, which takes longer: it seeds every device.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _accelerator(config: TrainConfig, project_dir: Path) -> Accelerator:
    accelerator = Accelerator(
        mixed_precision=config.autocast, log_with=config.log_with, project_dir=project_dir
    )
    if config.log_with is not None and not accelerator.log_with:
        raise D90Error(f"log_with '{config.log_with}': its package is not installed.")
    return accelerator
