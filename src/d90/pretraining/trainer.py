"""A pre-training run that is under way: its updates, its evaluations, its state.

As in `d90.training.trainer`, nothing depends on how a run got to where it is: the order of the
blocks, the masks, dropout and the learning rate are functions of the seed and of the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import RobertaForMaskedLM

from d90.errors import D90Error
from d90.pretraining.checkpoints import Evaluation
from d90.pretraining.config import ADAM, PretrainConfig
from d90.pretraining.dataset import Blocks
from d90.pretraining.masking import MaskedBatch, MaskingCollator
from d90.pretraining.model import masked_losses
from d90.pretraining.tokenizer import Vocabulary
from d90.rng import philox
from d90.training import learning_rate_factor
from d90.training.checkpoint import load_checkpoint, save_checkpoint

_DROPOUT_BLOCK = 2**40 + 1  # A block of the data stream that no epoch reaches.


@dataclass
class PretrainState:
    """What a run remembers from one update to the next, beside its tensors.

    Attributes:
        step: updates done.
        seconds: of earlier sessions.
        losses: of the updates since the last evaluation, in nats.
        history: the evaluations.
    """

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    history: list[Evaluation] = field(default_factory=list)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> PretrainState:
        return cls(**{**state, "history": [Evaluation(**result) for result in state["history"]]})


class PretrainTrainer:
    """A run that is under way.

    Args:
        model: it is trained in place.
        vocabulary: its tokens.
        train, held_out: blocks to learn from, and to be measured on.
        settings: how.
    """

    def __init__(
        self,
        model: RobertaForMaskedLM,
        vocabulary: Vocabulary,
        train: Blocks,
        held_out: Blocks,
        settings: PretrainConfig,
    ) -> None:
        self.settings, self.state = settings, PretrainState()
        self.accelerator = _accelerator(settings)
        device = self.accelerator.device
        self.model = model.to(device)
        if device.type == "cpu":
            # Torch's fused attention takes 1.1 to 1.9 times as long there, at 32 to 512 tokens.
            self.model.set_attn_implementation("eager")
        self.optimizer = ADAM(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._train, self._held_out = train, held_out
        self._masker = MaskingCollator(vocabulary.size, vocabulary.mask, vocabulary.special, device)
        self._orders: dict[int, Tensor] = {}
        self._started = perf_counter()

    @property
    def D(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def is_over(self) -> bool:
        return self.state.step == self.settings.max_steps

    @property
    def is_evaluated(self) -> bool:
        """Whether there is an evaluation of the weights as they are now."""
        history = self.state.history
        return bool(history) and history[-1].step == self.state.step

    @property
    def evaluation_is_due(self) -> bool:
        step = self.state.step
        return (
            step % self.settings.evaluate_every == 0 or step in self.settings.checkpoints
        ) and not self.is_evaluated

    @property
    def seconds(self) -> float:
        return self.state.seconds + perf_counter() - self._started

    def optimizer_step(self) -> float:
        """One optimizer update; its loss, the mean over its masked tokens in nats.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        settings, step = self.settings, self.state.step
        # Dropout is seeded step by step, so that no generator's state has to outlive an update.
        set_seed(_dropout_seed(settings.seed, step))
        factor = learning_rate_factor(step, settings.max_steps, settings.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        loss, norm = self._gradient(self._masked_blocks(step))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"loss {loss}, gradient norm {norm}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.losses.append(loss)
        if settings.log_with is not None:
            rate = self.optimizer.param_groups[0]["lr"]
            self.accelerator.log({"loss": loss, "learning_rate": rate}, step=self.state.step)
        return loss

    def _masked_blocks(self, step: int) -> MaskedBatch:
        """The blocks of an update: the next ones of an endless row of shuffles."""
        count = self.settings.blocks_per_step
        first = step * count
        blocks = self._train.rows([self._block(place) for place in range(first, first + count)])
        return self._masker.training(blocks, seed=self.settings.seed, first=first)

    def _block(self, place: int) -> int:
        epoch, index = divmod(place, len(self._train))
        if epoch not in self._orders:
            # An update may reach from one epoch into the next; none goes back.
            self._orders = {k: kept for k, kept in self._orders.items() if k == epoch - 1}
            order = philox.shuffle(self.settings.seed, len(self._train), block=epoch)
            self._orders[epoch] = order
        return int(self._orders[epoch][index])

    def _gradient(self, blocks: MaskedBatch) -> tuple[float, float]:
        """The mean loss over the masked tokens; the norm of its gradient, then clipped."""
        self.model.train()
        count = len(blocks.targets)
        loss = torch.zeros((), device=self.accelerator.device)
        length = self.settings.sequence_length_at(self.state.step)
        for batch in blocks.split(self.settings.batch_size):
            with self.accelerator.autocast():
                part = masked_losses(self.model, batch.split_sequences(length)).sum() / count
            self.accelerator.backward(part)
            loss += part.detach()
        largest = math.inf if self.settings.max_grad_norm is None else self.settings.max_grad_norm
        return float(loss), float(clip_grad_norm_(self.model.parameters(), largest))

    def evaluate(self) -> Evaluation:
        """Measure the held-out loss, and put it beside the training loss since the last time.

        Raises:
            FloatingPointError: the held-out loss is not finite.
        """
        state = self.state
        found = Evaluation(
            step=state.step,
            tokens=state.step * self.settings.tokens_per_step,
            train_loss=math.fsum(state.losses) / len(state.losses) if state.losses else None,
            validation_loss=self.validation_loss(),
            seconds=self.seconds,
        )
        state.history.append(found)
        state.losses.clear()
        if self.settings.log_with is not None:
            kept = {"validation_loss": found.validation_loss, "perplexity": found.perplexity}
            self.accelerator.log(kept, step=state.step)
        return found

    @torch.no_grad()
    def validation_loss(self, batches: int | None = None) -> float:
        """Mean loss over the masked tokens of held-out blocks, in nats.

        Blocks and masks are the same every time. Where there are more blocks than are wanted, they
        are taken at even distances, since a corpus may be in the order of its sources.
        """
        self.model.eval()
        numbers = evenly(len(self._held_out), self.settings.max_eval_blocks)
        total, count, size = 0.0, 0, self.settings.batch_size
        for first in list(range(0, len(numbers), size))[:batches]:
            blocks = self._held_out.rows(numbers[first : first + size])
            masked = self._masker.validation(blocks, first=first)
            with self.accelerator.autocast():
                losses = masked_losses(self.model, masked)
            total += float(losses.double().sum())
            count += len(losses)
        if not math.isfinite(total):
            raise FloatingPointError("the held-out loss is not finite")
        return total / count

    def save(self, file: Path, identity: dict[str, Any]) -> None:
        """Write all that the run needs to go on from here."""
        tensors = {f"parameter.{name}": p for name, p in self.model.named_parameters()}
        for index, kept in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in kept.items()}
        state = {**asdict(self.state), "seconds": self.seconds}
        save_checkpoint(file, tensors, {"identity": identity, "run": state})

    def resume(self, file: Path, identity: dict[str, Any]) -> None:
        """Go on from a saved state, if there is one.

        Raises:
            D90Error: it is damaged or of another run.
        """
        found = load_checkpoint(file, identity=identity)
        if found is None:
            return
        tensors, state = found
        parameters = dict(self.model.named_parameters())
        kept: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "parameter":
                parameters[name].data.copy_(tensor)
            else:
                index, _, name = name.partition(".")
                kept.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})
        self.state = PretrainState.from_json(state["run"])

    def close(self) -> None:
        self.model.eval()
        if self.settings.log_with is not None:
            self.accelerator.end_training()


def evenly(count: int, wanted: int) -> Sequence[int]:
    """`wanted` of 0..count-1 at even distances, or all of them.

    >>> evenly(10, 4), evenly(3, 4)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    wanted = min(wanted, count)
    return [i * count // wanted for i in range(wanted)]


def _accelerator(settings: PretrainConfig) -> Accelerator:
    accelerator = Accelerator(
        mixed_precision=settings.training.autocast,
        log_with=settings.log_with,
        project_dir=f"runs/pretraining-rate-{settings.learning_rate:g}-seed-{settings.seed}",
    )
    if accelerator.num_processes > 1:
        raise D90Error("a run trains in one process: start d90 without a launcher.")
    if settings.log_with is not None:
        if not accelerator.log_with:
            raise D90Error(f"log_with '{settings.log_with}': its package is not installed.")
        values = settings.to_dict().items()
        known = {name: value for name, value in values if isinstance(value, int | float | str)}
        accelerator.init_trackers("d90", config=known)
    return accelerator


def _dropout_seed(seed: int, step: int) -> int:
    block = _DROPOUT_BLOCK
    return int(philox.words(seed, philox.Stream.DATA, step, step + 1, block=block))
