"""A transformers model with an adapter, which can switch to another in place.

    theta = theta_0 + s lam (P z)

is written into the model's own parameters, so it is a normal model: it can be moved, saved, merged
and used in a pipeline. theta_0 is kept beside it, so that the base comes back bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from d90 import adapters
from d90.adapters import Adapter
from d90.adapters.fingerprint import WeightDigests, weight_digests
from d90.errors import D90Error
from d90.models import loading
from d90.models.heads import init_values
from d90.models.loading import DTYPES
from d90.subspace.layout import Layout, ParamRef, build_layout, find_params
from d90.subspace.ops import group_rows
from d90.tasks import kind_of
from d90.tasks.decoding import end_tokens, greedy_config


@dataclass(frozen=True)
class Head:
    """The head of a base: its number of outputs and the seed of its values.

    Without a number it is the checkpoint's own, that of a language model.
    """

    outputs: int | None
    seed: int


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A pretrained model, as an adapter starts from it.

    Attributes:
        name, dtype: as loaded.
        theta_0: by the first name of each tensor.
        weights: names of its tensors and the modules that hold them.
        digests: of theta_0.
        fresh: names of the tensors that are initialized from the head's seed.
        head: of theta_0.
    """

    name: str
    dtype: str
    theta_0: Mapping[str, Tensor]
    weights: tuple[ParamRef, ...]
    digests: WeightDigests
    fresh: frozenset[str]
    head: Head


class AdapterModel(PreTrainedModel):
    """What a model of transformers gains when it is loaded with an adapter.

    `load` makes it; its class is also that of the model, such as `BertForSequenceClassification`.

    Attributes:
        tokenizer: of the model.
        adapter: whose weights the model has; None for the base itself.
        base: the pretrained model.
    """

    tokenizer: PreTrainedTokenizerBase
    adapter: Adapter | None
    base: BaseModel

    def switch(self, file: str | Path | Adapter | None) -> AdapterModel:
        """Switch to another adapter of the same base; None restores the base, bit for bit.

        It takes about the time of one application of P. The adapter may have another head, which is
        initialized from its seed.

        Raises:
            D90Error: as `load`; the model is then unchanged.
        """
        if file is None:
            _write_theta_0(self, self.base)
            self.adapter = None
            return self
        found = _read(file)
        base = _with_head(self, self.base, found)
        layout, ordered = _checked(self, base, found)
        if base.head.outputs is not None:
            _take_head(self, base, _model_options(found)["labels"])
        _write_theta(base, found, layout, ordered)
        self.base, self.adapter = base, found
        return self


def load(base: str | None, file: str | Path | Adapter) -> AdapterModel:
    """A model of transformers with the weights of an adapter.

    Args:
        base: name or folder of the pretrained model, as in `d90.models.loading.load`; None for the
            one that the adapter names.
        file: an adapter, or its path.

    Returns:
        A normal model in evaluation mode on the CPU: for sequence classification (regression: with
        one output), or for generation a causal or an encoder-decoder one, whose `generate` decodes
        greedily. It also has what `AdapterModel` lists: `tokenizer`, `adapter`, `switch`.

    Raises:
        D90Error: the adapter is damaged or of an unknown version; the base cannot be loaded or is
            not the adapter's.
    """
    found = _read(file)
    name = _hub_revision(found.base.name, found.base.revision) if base is None else base
    head = _model_options(found)
    if found.base.dtype not in DTYPES:
        raise D90Error(f"{_where(found)}its base is of dtype '{found.base.dtype[:20]}': unknown.")
    try:
        loaded = loading.open_model(
            name, **head, head_seed=found.base.head_seed, dtype=found.base.dtype
        )
    except D90Error as error:
        if base is not None:
            raise
        raise D90Error(
            f"{_where(found)}its base model '{name}' cannot be found by that name: give its folder "
            f"or hub id as base ({error})"
        ) from error
    model: Any = loaded.model
    longest = loading.longest_input(model, loaded.tokenizer)
    if not 1 < found.task.max_length <= longest:
        raise D90Error(
            f"{_where(found)}it is for {found.task.max_length:,} tokens, and '{name}' takes at "
            f"most {longest:,}."
        )
    start = tuple(find_params(model))
    pretrained = BaseModel(
        name=name,
        dtype=found.base.dtype,
        theta_0={weight.names[0]: weight.parameter.detach().clone() for weight in start},
        weights=start,
        digests=weight_digests(model),
        fresh=loaded.fresh,
        head=Head(head["num_labels"], found.base.head_seed),
    )
    layout, ordered = _checked(model, pretrained, found)
    _write_theta(pretrained, found, layout, ordered)
    # A class of the same name: pipelines and saved configurations go by it.
    kind = type(model)
    model.__class__ = type(kind.__name__, (AdapterModel, kind), {"__module__": kind.__module__})
    model.tokenizer, model.adapter, model.base = loaded.tokenizer, found, pretrained
    if head["num_labels"] is None:
        model.config.use_cache = True
        # As in evaluation: the most probable tokens, whatever the checkpoint asks for.
        ends = end_tokens(model, loaded.tokenizer)
        model.generation_config = greedy_config(model.config, ends, use_cache=True)
    return model


def _read(file: str | Path | Adapter) -> Adapter:
    return file if isinstance(file, Adapter) else adapters.load_adapter(file)


def _where(file: Adapter) -> str:
    return f"the adapter for '{file.task.name}': "


def _model_options(file: Adapter) -> Mapping[str, Any]:
    """The head that an adapter is for.

    Raises:
        D90Error: it is of no known kind, or its values are not as its kind writes them.
    """
    try:
        return kind_of(file.task).model_options
    except D90Error as error:
        raise D90Error(f"{_where(file)}{error}") from error


def _with_head(model: PreTrainedModel, base: BaseModel, file: Adapter) -> BaseModel:
    """The base with the head that an adapter starts from; the model is not changed."""
    head = Head(_model_options(file)["num_labels"], file.base.head_seed)
    if head == base.head:
        return base
    if (head.outputs is None) != (base.head.outputs is None):
        raise D90Error(
            f"{_where(file)}it is of {file.task.kind}, for which '{base.name}' is a model of "
            "another class: load it with d90.load."
        )
    shapes = {name: tuple(base.theta_0[name].shape) for name in base.fresh & base.theta_0.keys()}
    if head.outputs is not None and head.outputs != base.head.outputs:
        shapes |= _other_shapes(base, head.outputs)
    changed: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        value = init_values(model, name, shape, head.seed)
        if value is not None:
            like = base.theta_0[name]
            changed[name] = value.to(like.device, like.dtype)
    return replace(
        base,
        theta_0={**base.theta_0, **changed},
        digests=base.digests.replaced(changed.items()),
        head=head,
    )


def _other_shapes(base: BaseModel, outputs: int) -> Mapping[str, tuple[int, ...]]:
    """The tensors whose shape differs for this number of outputs."""
    other = loading.load_meta(base.name, num_labels=outputs, dtype=base.dtype)
    shapes = {name: tuple(p.shape) for name, p in other.named_parameters()}
    return {
        name: shapes[name]
        for name, tensor in base.theta_0.items()
        if shapes.get(name, tuple(tensor.shape)) != tuple(tensor.shape)
    }


def _hub_revision(name: str, revision: str) -> str:
    """The base model at the commit that the adapter was trained on, if it is from the hub."""
    return f"{name}@{revision}" if revision and not Path(name).is_dir() else name


def _checked(model: nn.Module, base: BaseModel, file: Adapter) -> tuple[Layout, list[ParamRef]]:
    """The layout that the adapter's parameters belong to; nothing is changed.

    Raises:
        D90Error: the base is not the adapter's, or D or m differ.
    """
    expected, actual = file.base.fingerprint, base.digests.fingerprint
    if expected != actual or file.base.dtype != base.dtype:
        revision = f" at revision {file.base.revision}" if file.base.revision else ""
        raise D90Error(
            f"{_where(file)}its base model is '{file.base.name}'{revision} with the fingerprint "
            f"{expected[:12]}, and '{base.name}' has {actual[:12]}: give the right one as base."
        )
    start = [
        ParamRef(nn.Parameter(base.theta_0[w.names[0]], requires_grad=False), w.names, w.sites)
        for w in base.weights
    ]
    layout, ordered = build_layout(
        model, start, groups=file.subspace.groups, scale=file.subspace.scale
    )
    m = layout.m if file.subspace.is_said else 0
    if (layout.D, m) != (file.base.D, file.m):
        raise D90Error(
            f"{_where(file)}it is for D = {file.base.D:,} and m = {file.m}, and its base has "
            f"D = {layout.D:,} and m = {m}."
        )
    return layout, ordered


@torch.no_grad()
def _take_head(model: PreTrainedModel, base: BaseModel, labels: Sequence[str]) -> None:
    """Give the model parameters of the shapes of theta_0, and these names of classes."""
    for weight in base.weights:
        theta_0 = base.theta_0[weight.names[0]]
        module, attribute = weight.sites[0]
        if getattr(module, attribute).shape == theta_0.shape:
            continue
        parameter = nn.Parameter(theta_0.to(getattr(module, attribute).device, copy=True))
        for module, attribute in weight.sites:
            setattr(module, attribute, parameter)
            if isinstance(module, nn.Linear):
                module.out_features = len(theta_0)
    model.config.update(loading.label_maps(labels))
    if len(labels) == 1 or model.config.problem_type == "regression":
        model.config.problem_type = "regression" if len(labels) == 1 else None
    setattr(model, "num_labels", len(labels))  # noqa: B010  (many a head keeps its own count)


def _write_theta_0(model: nn.Module, base: BaseModel) -> None:
    with torch.no_grad():
        for weight in base.weights:
            _parameter(weight).copy_(base.theta_0[weight.names[0]])


@torch.no_grad()
def _write_theta(
    base: BaseModel, file: Adapter, layout: Layout, ordered: Sequence[ParamRef]
) -> None:
    """Write theta into the model's parameters, group by group, with no copy in between."""
    targets = dict(zip(layout.slices, ordered, strict=True))
    device = _parameter(ordered[0]).device
    z, lam = (torch.from_numpy(numbers.copy()).to(device) for numbers in (file.z, file.lam))
    for param_slice, weight in targets.items():
        if not param_slice.scale:
            _parameter(weight).copy_(base.theta_0[param_slice.name])
    rows_of_groups = group_rows(layout, file.subspace)
    for group, rows in zip(layout.trainable, rows_of_groups, strict=True):
        rows.write(
            z,
            lam if len(lam) else None,
            [base.theta_0[param_slice.name].to(device) for param_slice in group.trainable],
            [_parameter(targets[param_slice]).data for param_slice in group.trainable],
        )


def _parameter(weight: ParamRef) -> nn.Parameter:
    module, attribute = weight.sites[0]
    return getattr(module, attribute)
