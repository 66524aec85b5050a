"""A pretraining run: its optimizer steps, evaluations and state.

As in `d90.training.trainer`, a resumed run gives the same result: the order of the blocks, the
masks, dropout and the learning rate are functions of the seed and the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import RobertaForMaskedLM

from d90.distributed.process_group import get_process_group
from d90.errors import D90Error
from d90.pretraining.checkpoints import Evaluation
from d90.pretraining.config import ADAM, PretrainConfig
from d90.pretraining.dataset import TokenBlocks
from d90.pretraining.masking import MaskedBatch, MaskingCollator
from d90.pretraining.model import masked_losses
from d90.pretraining.tokenizer import Vocabulary
from d90.rng import philox
from d90.training.loop import LoopState, TrainingLoop
from d90.utils.reading import check_fields, check_keys


@dataclass
class PretrainState(LoopState):
    """The state of a pretraining run besides its tensors.

    Attributes:
        losses: of the steps since the last evaluation, in nats.
        history: the evaluations.
    """

    losses: list[float] = field(default_factory=list)
    history: list[Evaluation] = field(default_factory=list)

    @classmethod
    def from_json(cls, values: Any) -> PretrainState:
        required = ["step", "seconds", "losses", "history"]
        check_keys(values, {"history": tuple[Any, ...]}, required, "run")
        history = [Evaluation.from_json(result) for result in values["history"]]
        return cls(**{**check_fields(cls, {**values, "history": []}, "run"), "history": history})


class PretrainTrainer(TrainingLoop[PretrainState]):
    """A pretraining run in progress.

    Args:
        model: trained in place.
        vocabulary: its tokens.
        train, validation: blocks to train on, and to measure the validation loss on.
        config: how it is trained.
        identity: digests of the corpus and the tokenizer, which a checkpoint must match.

    Raises:
        D90Error: as `TrainingLoop`; a launcher started several processes.
    """

    def __init__(
        self,
        model: RobertaForMaskedLM,
        vocabulary: Vocabulary,
        train: TokenBlocks,
        validation: TokenBlocks,
        config: PretrainConfig,
        *,
        identity: Mapping[str, str],
    ) -> None:
        process_group = get_process_group()
        if process_group.world_size > 1:
            raise D90Error("pretraining runs in one process: start d90 without a launcher.")
        super().__init__(
            model,
            PretrainState(),
            config.train_config,
            optimizer=ADAM,
            learning_rate=config.learning_rate,
            seed=config.seed,
            run_name="pretraining",
            process_group=process_group,
        )
        self.model, self.pretrain_config, self.steps = model, config, config.max_steps
        device = self.accelerator.device
        if device.type == "cpu":
            # Torch's fused attention takes 1.1 to 1.9 times as long there, at 32 to 512 tokens.
            self.model.set_attn_implementation("eager")
        self._train, self._validation = train, validation
        self._collator = MaskingCollator(
            vocabulary.size, vocabulary.mask, vocabulary.special, device
        )
        self._checkpoint_identity = dict(identity)
        self._permutations: dict[int, Tensor] = {}
        self.start_trackers(config.to_dict())

    @property
    def D(self) -> int:
        """Number of parameters."""
        return self.num_trainable

    @property
    def is_over(self) -> bool:
        return self.state.step == self.steps

    @property
    def is_evaluated(self) -> bool:
        """Whether there is an evaluation of the current weights."""
        history = self.state.history
        return bool(history) and history[-1].step == self.state.step

    @property
    def evaluation_is_due(self) -> bool:
        step, config = self.state.step, self.pretrain_config
        is_due = step % config.evaluate_every == 0 or step in config.checkpoints
        return is_due and not self.is_evaluated

    def _losses(self, step: int) -> Iterator[Tensor]:
        length = self.pretrain_config.sequence_length_at(step)
        return self._batch_losses(self._masked_blocks(step), length)

    def _batch_losses(self, blocks: MaskedBatch, length: int) -> Iterator[Tensor]:
        """The contribution of each batch to the mean loss over all masked tokens.

        The model reads the blocks as sequences of `length` tokens.
        """
        for batch in blocks.split(self.config.batch_size):
            with self.accelerator.autocast():
                loss = masked_losses(self.model, batch.split_sequences(length)).sum()
                loss = loss / len(blocks.targets)
            yield loss

    def _masked_blocks(self, step: int) -> MaskedBatch:
        """The blocks of an optimizer step: the next ones of an endless sequence of shuffles."""
        count = self.pretrain_config.blocks_per_step
        first = step * count
        blocks = self._train.rows([self._block(visit) for visit in range(first, first + count)])
        return self._collator.training(blocks, seed=self.seed, first=first)

    def _block(self, visit: int) -> int:
        epoch, index = divmod(visit, len(self._train))
        if epoch not in self._permutations:
            # A step may reach from one epoch into the next; none goes back.
            self._permutations = {k: p for k, p in self._permutations.items() if k == epoch - 1}
            self._permutations[epoch] = philox.shuffle(self.seed, len(self._train), block=epoch)
        return int(self._permutations[epoch][index])

    def _record(self, loss: float) -> None:
        self.state.losses.append(loss)

    def _identity(self) -> dict[str, Any]:
        return self._checkpoint_identity

    def evaluate(self) -> Evaluation:
        """Measure the validation loss, and the mean training loss since the last evaluation.

        Raises:
            FloatingPointError: the validation loss is not finite.
        """
        state = self.state
        result = Evaluation(
            step=state.step,
            tokens=state.step * self.pretrain_config.tokens_per_step,
            train_loss=math.fsum(state.losses) / len(state.losses) if state.losses else None,
            validation_loss=self.validation_loss(),
            seconds=self.seconds,
        )
        state.history.append(result)
        state.losses.clear()
        self.log({"validation_loss": result.validation_loss, "perplexity": result.perplexity})
        return result

    @torch.no_grad()
    def validation_loss(self, max_batches: int | None = None) -> float:
        """Mean loss over the masked tokens of the validation blocks, in nats.

        Blocks and masks are the same every time. If there are more than `max_eval_blocks` blocks,
        evenly spaced ones are taken, since a corpus may be ordered by source.
        """
        self.model.eval()
        indices = evenly_spaced(len(self._validation), self.pretrain_config.max_eval_blocks)
        total, count, size = 0.0, 0, self.config.batch_size
        for first in range(0, len(indices), size)[:max_batches]:
            blocks = self._validation.rows(indices[first : first + size])
            masked = self._collator.validation(blocks, first=first)
            with self.accelerator.autocast():
                losses = masked_losses(self.model, masked)
            total += float(losses.double().sum())
            count += len(losses)
        if not math.isfinite(total):
            raise FloatingPointError("the validation loss is not finite")
        return total / count


def evenly_spaced(count: int, limit: int) -> Sequence[int]:
    """At most `limit` evenly spaced indices of 0..count-1.

    >>> evenly_spaced(10, 4), evenly_spaced(3, 4)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    limit = min(limit, count)
    return [i * count // limit for i in range(limit)]
