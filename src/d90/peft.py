"""d90 as a method of PEFT: `get_peft_model(model, D90Config(d=200))`.

    theta = theta_0 + s lam (P z)

Importing this module registers the method. PEFT's methods put a layer in the place of each module
that they change; a subspace goes through the whole model, head included, so the whole model is
PEFT's one layer, and `d90.subspace.attach` does the work.

>>> from peft import get_peft_model
>>> model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
>>> get_peft_model(model, D90Config(d=5)).print_trainable_parameters()
trainable params: 5 || all params: 237 || trainable%: 2.1097
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from d90.errors import D90Error
from d90.models.heads import initialize
from d90.rng import philox
from d90.search.subspace_config import MAX_SEED, SubspaceConfig
from d90.subspace import Subspace, attach, detach, merge
from d90.subspace.attach import NAME
from d90.subspace.layout import ParamSite
from d90.utils.digest import state_digest, text_digest

try:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PeftConfig, PeftType
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
except ModuleNotFoundError as error:
    if error.name != "peft":
        raise
    raise D90Error("d90.peft needs the package peft: pip install 'd90[peft]'.") from None
if not hasattr(BaseTuner, "_get_adapter_state_dict"):
    raise D90Error("d90.peft needs peft 0.21 or newer: pip install 'd90[peft]'.")

__all__ = ["D90Config", "D90Model"]

_LAYER = "peft_layer"
_HEAD_BESIDE = ("TOKEN_CLS", "QUESTION_ANS")
_KEYS = (f"{NAME}.z", f"{NAME}.lam")


class _Type(str, Enum):
    """What `PeftType` is to PEFT's own methods: it hashes and compares as its name."""

    D90 = "D90"


@dataclass(kw_only=True)
class D90Config(PeftConfig):
    """The settings of a subspace, as PEFT keeps them in `adapter_config.json`.

    `task_type` chooses PEFT's class of model and nothing else: the head is in theta_0 and in the
    subspace, and never trained beside it. PEFT's classes for TOKEN_CLS and QUESTION_ANS take no
    adapter without a head beside it, so these two are read as None, PEFT's general class.

    Args:
        d: number of parameters to train.
        method, groups, projection, scale, seed: as in `d90.attach`.
        head_seed: where given, the head (every weight outside the base model) is first made from
            this seed, as `d90.models.loading.load` makes a new one: 0 <= head_seed < 2^64. Where
            None, it is the head that the model came with.
        base, dtype: fingerprint and dtype of the weights that z belongs to, filled in by
            `get_peft_model`.
        scheme: of the random numbers.

    Raises:
        D90Error: for an unknown name, a d or seed out of range, or another scheme of random
            numbers.
    """

    d: int
    method: str = "did"
    groups: str = "layer"
    projection: str = "fastfood"
    scale: str = "tensor"
    seed: int = 0
    head_seed: int | None = None
    base: str | None = None
    dtype: str | None = None
    scheme: str = philox.SCHEME

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = _Type.D90
        if self.task_type in _HEAD_BESIDE:
            self.task_type = None
        if self.head_seed is not None and not 0 <= self.head_seed <= MAX_SEED:
            raise D90Error(f"head_seed is {self.head_seed}: expected a whole number in [0, 2^64).")
        if self.scheme != philox.SCHEME:
            raise D90Error(
                f"the adapter's random numbers are {self.scheme!r}, and this d90 makes "
                f"{philox.SCHEME}: use the d90 that wrote it, or a later one."
            )
        _ = self.subspace  # Refuses unknown names and bad counts.

    @property
    def subspace(self) -> SubspaceConfig:
        """Which subspace these settings mean."""
        return SubspaceConfig(
            self.method, self.groups, self.projection, self.scale, self.d, self.seed
        )


class D90Layer(nn.Module, BaseTunerLayer):
    """The whole model as PEFT's one layer: it switches the subspace off and on.

    While it is off, theta_0 is in theta's places. Theta itself is kept and put back, not computed
    again: a graph that waits for its backward pass finds the tensors that it was built on.

    Args:
        model: that the subspace is attached to.
        subspace: of the model.
        adapter_name: PEFT's name for it.
    """

    def __init__(self, model: nn.Module, subspace: Subspace, adapter_name: str) -> None:
        super().__init__()
        # In a tuple, which torch does not register: both are above this module, not below it.
        self._above = model, subspace
        self._name, self._active_adapter = adapter_name, adapter_name
        self._theta: dict[ParamSite, Tensor] = {}
        # PEFT counts parameters, and theta_0 is none. It reads the size of an empty parameter from
        # `ds_numel`, which DeepSpeed's ZeRO 3 sets.
        self.theta_0 = nn.Parameter(subspace.z.new_empty(0), requires_grad=False)
        self.theta_0.ds_numel = subspace.layout.D  # pyright: ignore[reportAttributeAccessIssue]

    def get_base_layer(self) -> nn.Module:
        """The model."""
        return self._above[0]

    def enable_adapters(self, enabled: bool) -> None:
        """Switch the subspace on or off."""
        if enabled == (not self.disable_adapters):
            return
        self.unmerge()
        self._disable_adapters = not enabled
        if not enabled:
            self._show_base()
            self._hook = self.get_base_layer().register_forward_pre_hook(self._show_base)
            return
        self._hook.remove()
        for (module, attribute), theta in self._theta.items():
            setattr(module, attribute, theta)
        self._theta.clear()

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Train z and lam, or freeze them."""
        self._active_adapter = adapter_names
        self.set_requires_grad(adapter_names, not inference_mode)

    def set_requires_grad(
        self, adapter_names: str | Sequence[str], requires_grad: bool = True
    ) -> None:
        """Train z and lam, or freeze them, if this adapter is named."""
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        subspace = self._above[1]
        for vector in (subspace.z, subspace.lam):
            if vector is not None and self._name in names:
                vector.requires_grad = requires_grad

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Show theta as the model's parameters, by their names, until `unmerge`.

        In TRL, vLLM receives the weights in this way. z stays what is trained.
        """
        if self.disable_adapters:
            raise D90Error("the adapter is disabled: call merge_adapter() while it is enabled.")
        subspace = self._above[1]
        theta = subspace.theta
        if safe_merge:
            _check_finite(theta.values())
        for param_slice, tensor in theta.items():
            parameter = nn.Parameter(tensor.detach(), requires_grad=False)
            for module, attribute in subspace.sites[param_slice]:
                module._parameters[attribute] = parameter
        self.merged_adapters = [self._name]

    def unmerge(self) -> None:
        """Undo `merge`: the model's parameters are z and lam."""
        if not self.merged:
            return
        for module, attribute in chain.from_iterable(self._above[1].sites.values()):
            del module._parameters[attribute]
        self.merged_adapters = []

    def _get_available_adapters(self) -> set[str]:
        return {self._name}

    def _show_base(self, *_: Any) -> None:
        """theta_0 in the model's places; runs after the subspace's own hook, which puts theta."""
        subspace = self._above[1]
        for param_slice, theta_0 in subspace.theta_0.items():
            for module, attribute in subspace.sites[param_slice]:
                theta = getattr(module, attribute)
                if theta is not theta_0:
                    self._theta[module, attribute] = theta
                    setattr(module, attribute, theta_0)

    # The state dict of an adapter is its d numbers and has no key for a count.
    def _save_to_state_dict(self, *_: Any) -> None:
        pass

    def _load_from_state_dict(self, *_: Any) -> None:
        pass


class D90Model(BaseTuner):
    """A model in a subspace, as PEFT holds it. One adapter at a time; it may be replaced."""

    prefix = NAME
    tuner_layer_cls = D90Layer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  # as PEFT declares it

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Attach the subspace of `peft_config[adapter_name]` to the model, in place.

        Raises:
            D90Error: as `d90.attach`; there is an adapter already; the model is not the one that
                the adapter was trained on; `low_cpu_mem_usage`.
        """
        # PEFT makes a first adapter's parameters meta tensors without telling the tuner.
        if low_cpu_mem_usage or nn.LayerNorm(1).weight.is_meta:
            raise D90Error("low_cpu_mem_usage saves nothing on d parameters: leave it out.")
        if isinstance(getattr(model, NAME, None), Subspace):
            raise D90Error(
                "the model is in a subspace already, and holds one at a time: call "
                "delete_adapter(name), unload() or detach(model) first."
            )
        config = cast(D90Config, self.peft_config[adapter_name])
        if config.head_seed is not None:
            _make_head(model, config.head_seed)
        base, dtype = _fingerprint(model), _dtype(model)
        if config.base not in (None, base):
            raise _other_model(config.dtype or dtype, dtype)
        subspace = attach(model, **config.subspace.to_dict())
        layer = D90Layer(model, subspace, adapter_name)
        layer.set_adapter(adapter_name, inference_mode=config.inference_mode)
        subspace.add_module(_LAYER, layer)
        # A copy: the user's own object may serve for other models.
        self.peft_config[adapter_name] = replace(config, base=base, dtype=dtype)
        self.active_adapter = adapter_name

    def delete_adapter(self, adapter_name: str) -> None:
        """The base model again, ready for another adapter."""
        del self.peft_config[adapter_name]
        self._detach()
        self.active_adapter = []

    def merge_and_unload(
        self,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> nn.Module:
        """The model with theta as its parameters, without a trace of d90 or PEFT.

        Args:
            progressbar: there is none.
            safe_merge: refuse a theta that is not finite.
            adapter_names: there is one adapter.

        Raises:
            D90Error: theta is not finite, where asked.
        """
        subspace = getattr(self.model, NAME, None)
        if isinstance(subspace, Subspace):
            self.enable_adapter_layers()
            if safe_merge:
                _check_finite(subspace.theta.values())
            merge(self.model)
        return self.unload()

    def unload(self) -> nn.Module:
        """The base model, bit for bit, without a trace of d90 or PEFT."""
        self._detach()
        del self.model.peft_config
        return self.model

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """theta_0 under the names that it has inside a `PeftModel`, so that DDP leaves it alone."""
        ignored = self.model.__dict__.get("_ddp_params_and_buffers_to_ignore", [])
        return [f"base_model.model.{name}" for name in ignored]

    def _detach(self) -> None:
        if isinstance(getattr(self.model, NAME, None), Subspace):
            self.enable_adapter_layers()
            detach(self.model)

    def _create_and_replace(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("a subspace replaces no module: see inject_adapter")

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: Mapping[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        """z and lam."""
        return {key: vector for key, vector in state_dict.items() if key.endswith(_KEYS)}

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return key  # There is one adapter, and its name is in no key.

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """The file's tensors, when they are the ones expected: PEFT itself loads what it finds."""
        expected = {key: tuple(vector.shape) for key, vector in model.state_dict().items()}
        actual = {key: tuple(vector.shape) for key, vector in state_dict.items()}
        if actual != expected:
            raise D90Error(
                f"the adapter's file holds {actual or 'nothing'}, and its configuration asks for "
                f"{expected}: the two are not of one adapter, or the file is damaged."
            )
        return state_dict


def _make_head(model: nn.Module, seed: int) -> None:
    """Give every weight outside the base model of a Transformers model its value from the seed."""
    body = getattr(model, getattr(model, "base_model_prefix", ""), None)
    inside = {*body.parameters()} if isinstance(body, nn.Module) else set()
    # A tied output layer is the embedding table: it belongs to the base model.
    names = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter not in inside
    }
    if not inside or not names:
        raise D90Error(
            f"head_seed: {type(model).__name__} has no head beside a base model of Transformers; "
            "leave head_seed out."
        )
    initialize(model, names, seed)


def _other_model(expected: str, dtype: str) -> D90Error:
    if dtype != expected:
        return D90Error(
            f"the adapter belongs to another model: to {expected} weights, and these are {dtype}. "
            f"Load the model with dtype=torch.{expected}."
        )
    return D90Error(
        "the adapter belongs to another model: its weights, its head's or which of them are frozen "
        "differ. Load the checkpoint it was trained on, in the same dtype; a new head is random "
        "each time unless D90Config has a head_seed."
    )


def _check_finite(theta: Iterable[Tensor]) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in theta):
        raise D90Error("the adapter makes weights that are not finite: it cannot be merged.")


def _dtype(model: nn.Module) -> str:
    """The dtype of the trained weights, without `torch.`; several in alphabetical order."""
    dtypes = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}
    return ", ".join(sorted(dtypes))


def _fingerprint(model: nn.Module) -> str:
    """SHA-256 of every tensor of the model, and of which are trained: these decide what z means."""
    flags = "".join(f"{name} {p.requires_grad}\n" for name, p in model.named_parameters())
    return text_digest(state_digest(model) + flags)


# `register_peft_method` takes none but the members of PEFT's own enumeration, which cannot be
# extended. These tables, which it fills, are public.
PEFT_TYPE_TO_CONFIG_MAPPING[cast(PeftType, _Type.D90)] = D90Config
PEFT_TYPE_TO_TUNER_MAPPING[cast(PeftType, _Type.D90)] = D90Model
