"""Groups of the tensors of a model, from its structure and not from its model type.

A grouping takes a model and returns a function from the name of a tensor to that of its group.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import accumulate

from torch import nn

HEAD = "head"
EMBEDDINGS = "embeddings"

# `word_embeddings`, `embed_tokens`, `mask_emb`, `embedding_hidden_mapping_in`; not `members`.
_EMBEDDING_NAME = re.compile(r"(^|_)emb|embed")


def by_tensor(model: nn.Module) -> Callable[[str], str]:
    """Each tensor by itself, under its own name."""
    return lambda name: name


def by_module(model: nn.Module) -> Callable[[str], str]:
    """The tensors that one module owns, under the module's name."""
    return lambda name: _owner(name) or type(model).__name__


def by_layer(model: nn.Module) -> Callable[[str], str]:
    """Each transformer block, the embeddings, the head, and the rest.

    * The head is everything outside the base model (`model.base_model_prefix`) of a Transformers
      model, and the pooler: RoBERTa has the pooler's twin inside its head, and a checkpoint from
      masked language modeling has neither. Other models have a head where they name it `head`.
    * A layer is the outermost child of an indexed container (`nn.ModuleList`, `nn.Sequential`)
      that has a sibling of its class, or that is alone in an `nn.ModuleList`. A block shared
      between depths, as in ALBERT, is one layer.
    * The embeddings are the `nn.Embedding` outside layers, and tensors under a name with
      `emb` (position and token type tables, their norm, ALBERT's factor).
    * The rest, such as a final norm, is grouped by top-level module.
    """
    body = _body(model)
    layers = _layers(model)
    tables = {path for path, module in model.named_modules() if isinstance(module, nn.Embedding)}

    def group(name: str) -> str:
        if not name.startswith(body):
            return HEAD
        inside = name.removeprefix(body).split(".")
        if body and any("pooler" in part for part in inside):
            return HEAD
        layer = next((path for path in _prefixes(name) if path in layers), None)
        if layer is not None:
            return layer
        if _owner(name) in tables or any(_EMBEDDING_NAME.search(part) for part in inside):
            return EMBEDDINGS
        return (body + inside[0] if len(inside) > 1 else body[:-1]) or type(model).__name__

    return group


GROUPINGS: dict[str, Callable[[nn.Module], Callable[[str], str]]] = {
    "layer": by_layer,
    "module": by_module,
    "tensor": by_tensor,
}


def _body(model: nn.Module) -> str:
    """`bert.` for a Transformers model with a base model inside; empty otherwise.

    `base_model.model.bert.` where PEFT's wrappers, which pass its attributes on, are around it.
    """
    prefix = getattr(model, "base_model_prefix", "")
    body = getattr(model, prefix, None) if prefix else None
    if not isinstance(body, nn.Module):
        return ""
    owners = ((p, m) for p, m in model.named_modules() if hasattr(type(m), "base_model_prefix"))
    path, owner = next(owners, ("", model))
    return f"{path}.{prefix}." if path and hasattr(owner, prefix) else f"{prefix}."


def _layers(model: nn.Module) -> set[str]:
    """Paths of the children of indexed containers that look like repeated blocks, at any depth."""
    layers = set()
    for path, container in model.named_modules():
        if not isinstance(container, (nn.ModuleList, nn.Sequential)):
            continue
        # A list of tables is not a stack of blocks.
        children = [
            (index, child)
            for index, child in container.named_children()
            if not isinstance(child, nn.Embedding)
        ]
        classes = Counter(type(child) for _, child in children)
        alone = isinstance(container, nn.ModuleList) and len(children) == 1
        layers |= {
            f"{path}.{index}" if path else index
            for index, child in children
            if alone or classes[type(child)] > 1
        }
    return layers


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _prefixes(name: str) -> list[str]:
    """The paths of the modules around a tensor, outermost first."""
    return list(accumulate(_owner(name).split("."), lambda path, part: f"{path}.{part}"))
