"""Attach a subspace to tiny random models of several families and print what comes of it.

    python scripts/families.py

For each: D, the trained numbers, the largest difference between theta at z = 0 and theta_0 (0 is
the only right answer, signs of zero included), the tensors that go by several names, the groups of
SAID by layer, and the share of the weights that another z moves. No file is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn

from d90.subspace import attach, detach

VOCABULARY, WIDTH, HEADS, LAYERS, LABELS = 60, 16, 2, 2, 3

_COMMON = {"vocab_size": VOCABULARY, "num_labels": LABELS, "pad_token_id": 0}
_ENCODER = {
    **_COMMON,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 2 * WIDTH,
}
_OPTIONS = {
    "Bert": {**_ENCODER, "max_position_embeddings": 32},
    "Roberta": {**_ENCODER, "max_position_embeddings": 32},
    "Albert": {**_ENCODER, "embedding_size": 8, "max_position_embeddings": 32},
    "Electra": {**_ENCODER, "embedding_size": 8, "max_position_embeddings": 32},
    "Bart": {
        **_COMMON,
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": 2 * WIDTH,
        "decoder_ffn_dim": 2 * WIDTH,
        "max_position_embeddings": 32,
        "eos_token_id": 2,
    },
    "T5": {
        **_COMMON,
        "d_model": WIDTH,
        "d_kv": 8,
        "d_ff": 2 * WIDTH,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
    },
    "GPT2": {
        **_COMMON,
        "n_embd": WIDTH,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": 32,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "XLNet": {
        **_COMMON,
        "d_model": WIDTH,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "d_inner": 2 * WIDTH,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "Llama": {**_ENCODER, "num_key_value_heads": HEADS, "max_position_embeddings": 32},
}
FAMILIES = tuple(_OPTIONS)


def tiny(family: str, **options: object) -> nn.Module:
    """A random sequence classifier of that family, without dropout, the same every time."""
    config = getattr(transformers, f"{family}Config")(**_OPTIONS[family] | options)
    for name in list(vars(config)):
        if "dropout" in name or name.endswith("pdrop"):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForSequenceClassification")(config).eval()


def batch(rows: int = 3, length: int = 7) -> dict[str, Tensor]:
    """Random tokens that end in the end-of-sequence token, and labels."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, VOCABULARY, (rows, length), generator=generator)
    tokens[:, -1] = 2
    labels = torch.arange(rows) % LABELS
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


@dataclass(frozen=True)
class Outcome:
    """What attaching a subspace did to a model.

    Attributes:
        D: number of weights.
        trained: numbers that would be trained.
        difference: largest difference of theta at z = 0 from theta_0; infinite where bits differ.
        ties: names beyond the first that tensors go by.
        groups: names of the SAID groups.
        moved: share of the weights that differ from theta_0 at a random z.
    """

    D: int
    trained: int
    difference: float
    ties: int
    groups: tuple[str, ...]
    moved: float


def examine(model: nn.Module, d: int, method: str) -> Outcome:
    """Attach a subspace, look, and detach it."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    subspace = attach(model, d=d, method=method, scale="rms")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # With a graph, so that it is computed: without one, theta at the start is theta_0 itself.
    subspace.materialise()
    difference = max(_difference(_at(model, name), tensor) for name, tensor in before.items())
    with torch.no_grad():
        subspace.z.copy_(torch.linspace(-1, 1, len(subspace.z)))
    subspace.materialise()
    moved = sum(int((_at(model, name) != tensor).sum()) for name, tensor in before.items())
    groups = tuple(group.name for group in subspace.layout.groups)
    detach(model)
    D = subspace.layout.D
    return Outcome(D, trained, difference, subspace.layout.ties, groups, moved / D)


def _at(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(owner), attribute).detach()


def _difference(left: Tensor, right: Tensor) -> float:
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[left.element_size()]
    same = torch.equal(left.view(bits), right.view(bits))
    return 0.0 if same else float((left - right).abs().max()) or float("inf")


ROWS: dict[str, Callable[[Outcome], str]] = {
    "D": lambda o: f"{o.D:,}",
    "trained": lambda o: str(o.trained),
    "max difference at z = 0": lambda o: f"{o.difference:g}",
    "tied names": lambda o: str(o.ties),
    "weights moved at z ≠ 0": lambda o: f"{o.moved:.2%}",
    "m": lambda o: str(len(o.groups)),
    "groups": lambda o: ", ".join(f"`{name}`" for name in o.groups),
}


def main() -> None:
    """Print the table, as Markdown."""
    print("| model |", " | ".join(ROWS), "|")
    print("|---" * (len(ROWS) + 1) + "|")
    for family in FAMILIES:
        outcome = examine(tiny(family), d=50, method="said")
        print(f"| {family} |", " | ".join(cell(outcome) for cell in ROWS.values()), "|")


if __name__ == "__main__":
    main()
