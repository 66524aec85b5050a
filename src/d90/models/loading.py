"""Pretrained models with a new head: folders, GGUF files, hub ids and models that come in packages.

Only safetensors and GGUF are read, no pickle; code from a model's folder is never run. Whatever a
folder holds, transformers' errors about it become one line that names it (`guarded`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from d90.errors import D90Error, single_line, unknown_name
from d90.models import gguf
from d90.models.heads import initialize
from d90.models.packaged import PACKAGED, packaged_path
from d90.models.padding import fit_tokenizer
from d90.utils.files import as_path
from d90.utils.hub import is_reachable
from d90.utils.reading import check_keys, parse_json, read_text

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

ATTENTION = (None, "eager", "sdpa")
"""What a config.json may name: any other implementation may be a program from the hub."""

MAX_LAYERS = 500
"""Of a config.json: more take seconds to hours to construct, even without weights."""

ADAPTER_CONFIG = "adapter_config.json"

BIDIRECTIONAL = ("xlnet", "xlm", "flaubert")
"""Of the models that `AutoModelForCausalLM` loads, those that predict tokens they attend to."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A pretrained model with its tokenizer.

    Attributes:
        model, tokenizer: as `load` returns them.
        fresh: names of the tensors that the checkpoint lacks, which the head's seed determines.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fresh: frozenset[str]


def load(
    name_or_folder: str,
    *,
    num_labels: int | None,
    head_seed: int = 0,
    dtype: str = "float32",
    labels: Sequence[str] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pretrained model with a head for classification, one number or tokens, and its tokenizer.

    Tensors that the checkpoint lacks (the head) are a function of `head_seed` and of their names
    alone: normal with the model's own standard deviation, biases zero.

    Args:
        name_or_folder: a key of `PACKAGED`, a local folder, a GGUF file, or a hub id, which
            `@REVISION` may follow: a branch, tag or commit.
        num_labels: number of classes; 1 for a single number (regression); None for the next token,
            by the head that the checkpoint has.
        head_seed: 0 <= head_seed < 2^64.
        dtype: weight dtype, a key of `DTYPES`; overrides the checkpoint's.
        labels: names of the classes, kept in the model's configuration.

    Returns:
        The model in evaluation mode on the CPU, and its tokenizer: with a padding token, on the
        side on which this model pads, and giving token types where the model reads them.

    Raises:
        D90Error: unknown or unreachable model, no safetensors or GGUF, no model of this kind for
            the head, weights missing, no vocabulary, unknown dtype.
    """
    loaded = open_model(
        name_or_folder, num_labels=num_labels, head_seed=head_seed, dtype=dtype, labels=labels
    )
    return loaded.model, loaded.tokenizer


def open_model(
    name_or_folder: str,
    *,
    num_labels: int | None,
    head_seed: int = 0,
    dtype: str = "float32",
    labels: Sequence[str] | None = None,
) -> LoadedModel:
    """As `load`, with the names of the tensors that the checkpoint lacks."""
    source = resolve(name_or_folder)
    reading = gguf.read_once() if source.file else nullcontext()
    with guarded(name_or_folder, source), reading:
        return _open(name_or_folder, source, num_labels, head_seed, dtype, labels)


def _open(
    name: str,
    source: ModelSource,
    num_labels: int | None,
    head_seed: int,
    dtype: str,
    labels: Sequence[str] | None,
) -> LoadedModel:
    config = _configuration(name, source, num_labels, labels)
    _check_weight_files(name, source)
    options = source.options
    if source.file is None or source.header is None:
        tokenizer = AutoTokenizer.from_pretrained(source.location, **options)
    else:
        _meta(name, source, config, num_labels, dtype)  # Refuses what is too large for the file.
        options |= gguf.model_options(source.file)
        longest = getattr(config, "max_position_embeddings", None)
        tokenizer = gguf.tokenizer_of(
            source.location, source.file, source.header.num_tokens, longest
        )
    _check_vocabulary(name, source, tokenizer)
    tokenizer("a word")  # Some mistakes in its files show only here.
    model, info = auto_class(name, config, num_labels).from_pretrained(
        source.location,
        config=config,
        dtype=_dtype(dtype),
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    fresh = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    _check_body(name, model, fresh, has_new_head=num_labels is not None)
    initialize(model, fresh, head_seed)
    fit_tokenizer(name, model, tokenizer, num_labels)
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # Training has no next step to keep keys for.
    longest_input(model, tokenizer)  # It may be no number.
    return LoadedModel(model, tokenizer, frozenset(fresh))


def load_meta(
    name_or_folder: str,
    *,
    num_labels: int | None,
    dtype: str = "float32",
    labels: Sequence[str] | None = None,
) -> PreTrainedModel:
    """The model on the meta device: its shapes, without memory for its weights.

    Raises:
        D90Error: as `load`.
    """
    source = resolve(name_or_folder)
    with guarded(name_or_folder, source):
        config = _configuration(name_or_folder, source, num_labels, labels)
        return _meta(name_or_folder, source, config, num_labels, dtype)


def _meta(
    name: str, source: ModelSource, config: PreTrainedConfig, num_labels: int | None, dtype: str
) -> PreTrainedModel:
    with torch.device("meta"):
        model = auto_class(name, config, num_labels).from_config(config, dtype=_dtype(dtype))
    D = sum(p.numel() for p in model.base_model.parameters())
    if source.header is not None and source.header.num_weights < D:
        raise D90Error(
            f"model '{name}': its metadata describe a model of {D:,} parameters, more than the "
            f"{source.header.num_weights:,} that are in the file."
        )
    return model


def auto_class(name: str, config: PreTrainedConfig, num_labels: int | None) -> Any:
    """The class of transformers that makes the model.

    Raises:
        D90Error: a model of this kind does not generate.
    """
    if num_labels is not None:
        return AutoModelForSequenceClassification
    if getattr(config, "is_encoder_decoder", False):
        return AutoModelForSeq2SeqLM
    # A BERT would be loaded too, and see the tokens that it has to predict.
    is_encoder = getattr(config, "is_decoder", None) is False or config.model_type in BIDIRECTIONAL
    if is_encoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise D90Error(
            f"model '{name}' is an encoder ({config.model_type}), which generates no text: take a "
            "causal or an encoder-decoder model, such as GPT-2, Llama or T5."
        )
    return AutoModelForCausalLM


@dataclass(frozen=True)
class ModelSource:
    """Where a model is read from.

    Attributes:
        location: a folder or a hub id.
        revision: a branch, tag or commit of the hub's repository; None for its main branch, and
            for a folder.
        file: the GGUF file in the folder; None for safetensors.
    """

    location: str
    revision: str | None = None
    file: str | None = None

    @cached_property
    def header(self) -> gguf.GgufHeader | None:
        """Of the GGUF file, which is checked; None for safetensors."""
        return None if self.file is None else gguf.check_gguf(Path(self.location) / self.file)

    @property
    def is_folder(self) -> bool:
        """Whether it is a local folder."""
        return Path(self.location).is_dir()

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of every `from_pretrained`. An unreachable hub would cost half a minute."""
        is_local = (
            self.is_folder or constants.HF_HUB_OFFLINE or not is_reachable(constants.ENDPOINT)
        )
        revision = {} if self.revision is None else {"revision": self.revision}
        return {"trust_remote_code": False, "local_files_only": is_local, **revision}


def resolve(name_or_folder: str) -> ModelSource:
    """The folder and GGUF file, or the hub id and revision, that a model name stands for.

    >>> resolve("roberta-base@v1.0")
    ModelSource(location='roberta-base', revision='v1.0', file=None)

    Raises:
        D90Error: a packaged model that is not installed; a path where there is no folder or file;
            a folder without a configuration or without safetensors; a revision that is empty, or
            of a model that is not on the hub.
    """
    if name_or_folder in PACKAGED:
        folder = packaged_path(name_or_folder)
    else:
        folder = as_path(name_or_folder, "model")
    if folder.is_dir():
        return ModelSource(str(folder), file=_check_folder(folder))
    if folder.suffix.lower() == gguf.SUFFIX:
        if not folder.is_file():
            raise D90Error(f"model '{name_or_folder}': there is no such file.")
        return ModelSource(str(folder.parent), file=folder.name)
    name, at, revision = name_or_folder.partition("@")
    if at and name and (name in PACKAGED or Path(name).expanduser().exists()):
        raise D90Error(
            f"model '{name_or_folder}': only a model on the hub has revisions, and '{name}' is "
            f"local: leave out '@{revision}'."
        )
    if name_or_folder.startswith((".", "~", "/", os.sep)) or len(Path(name).parts) > 2:
        raise D90Error(f"model '{name_or_folder}': there is no such folder.{_hint(folder)}")
    if at and not (name and revision):
        raise D90Error(f"model '{name_or_folder}': expected MODEL@REVISION, such as bert@main.")
    return ModelSource(name, revision or None)


def longest_input(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """The maximum input length in tokens: the tokenizer's limit or the position table's."""
    limits = [tokenizer.model_max_length]
    for name, module in model.named_modules():
        if name.endswith(("position_embeddings", "embed_positions", "wpe")) and isinstance(
            module, nn.Embedding
        ):
            # RoBERTa counts positions from the padding index on; BART reserves two rows.
            spare = module.padding_idx + 1 if module.padding_idx is not None else 0
            limits.append(module.num_embeddings - max(spare, getattr(module, "offset", 0)))
    return int(min(limits))


def _configuration(
    name: str, source: ModelSource, num_labels: int | None, labels: Sequence[str] | None
) -> PreTrainedConfig:
    names: dict[str, Any] = {} if labels is None else label_maps(labels)
    if source.header is not None:  # Checked before others read the file.
        names["gguf_file"] = source.file
    if num_labels is not None:
        names["num_labels"] = num_labels
    if num_labels == 1:
        names["problem_type"] = "regression"
    config = AutoConfig.from_pretrained(source.location, **names, **source.options)
    attention = getattr(config, "_attn_implementation", None)
    if attention not in ATTENTION:
        raise D90Error(
            f"model '{name}': its config.json asks for the attention '{attention}': remove that."
        )
    if getattr(config, "transformers_weights", None):
        raise D90Error(f"model '{name}': its config.json names other weights: remove that.")
    for field, value in config.to_dict().items():
        if "layers" in field and isinstance(value, int) and value > MAX_LAYERS:
            raise D90Error(f"model '{name}': {field} in its config.json is {value:,}.")
    return config


def _check_weight_files(name: str, source: ModelSource) -> None:
    """Only files of the model itself, and only safetensors; an adapter of PEFT is no model."""
    if _find(source, ADAPTER_CONFIG) is not None:
        raise D90Error(
            f"model '{name}' is an adapter of PEFT (it has {ADAPTER_CONFIG}): merge it into its "
            "base model first, with `merge_and_unload`."
        )
    index = _find(source, SAFE_WEIGHTS_INDEX_NAME)
    if index is None:
        return
    where = f"model '{name}': {SAFE_WEIGHTS_INDEX_NAME}"
    keys = {"weight_map": Mapping[str, str]}
    content = check_keys(parse_json(read_text(index, "model"), where), keys, [*keys], where)
    for file in content["weight_map"].values():
        if not file.endswith(".safetensors") or Path(file).name != file:
            raise D90Error(f"{where} names '{file}': expected .safetensors files beside it.")


def _find(source: ModelSource, file: str) -> Path | None:
    """A file of a model; None if it has none of that name."""
    if source.is_folder:
        path = Path(source.location) / file
        return path if path.is_file() else None
    options = {key: value for key, value in source.options.items() if key != "trust_remote_code"}
    try:
        found = cached_file(source.location, file, **options)
    except OSError:
        return None
    return None if found is None else Path(found)


def _check_vocabulary(name: str, source: ModelSource, tokenizer: PreTrainedTokenizerBase) -> None:
    """Without its files transformers makes a tokenizer to which every word is unknown."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    if not tokenizer.get_vocab().keys() - added - {*tokenizer.all_special_tokens}:
        raise D90Error(
            f"model '{name}': its tokenizer has no vocabulary: tokenizer.json is missing or empty; "
            "save the tokenizer there with `save_pretrained`."
        )
    names = [file for file in type(tokenizer).vocab_files_names.values() if file]
    is_folder = source.is_folder and source.file is None
    if is_folder and "tokenizer.json" in names and _find(source, "tokenizer.json") is None:
        missing = [file for file in names if _find(source, file) is None]
        if len(missing) > 1:
            raise D90Error(f"model '{name}': {missing[0]} of its tokenizer is missing.")


def label_maps(labels: Sequence[str]) -> dict[str, Any]:
    """The values of a configuration that name its classes."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def _check_folder(folder: Path) -> str | None:
    """The GGUF file that a folder's weights are in; None for safetensors."""
    has_safetensors = any(folder.glob("*.safetensors"))
    files = sorted(path.name for path in folder.glob(f"*{gguf.SUFFIX}"))
    if not has_safetensors and len(files) == 1:
        return files[0]
    if not has_safetensors and files:
        raise D90Error(f"model folder '{folder}' has {len(files)} GGUF files: give one of them.")
    if not (folder / "config.json").is_file():
        raise D90Error(f"model folder '{folder}' has no config.json.")
    if has_safetensors:
        return None
    pickles = sorted(
        path.name for suffix in ("bin", "pt", "pth") for path in folder.glob(f"*.{suffix}")
    )
    instead = f", only {pickles[0]}, a pickle, which d90 never loads" if pickles else ""
    raise D90Error(
        f"model folder '{folder}' has no .safetensors file{instead}: save the model again with "
        "`save_pretrained` of a current transformers."
    )


def _hint(folder: Path) -> str:
    """A suggestion: the nearest name among the folders beside it and the packaged models."""
    siblings = {str(path): path.name for path in folder.parent.glob("*") if path.is_dir()}
    choices = {**siblings, **{name: name for name in PACKAGED}}
    nearest = get_close_matches(folder.name, choices.values(), n=1, cutoff=0.6)
    matches = [key for key, name in choices.items() if name in nearest]
    return f" Did you mean '{matches[0]}'?" if matches else ""


@contextmanager
def guarded(name: str, source: ModelSource | None = None) -> Iterator[None]:
    """Silence transformers, and turn its errors into one line that says what to do.

    It raises errors of all kinds on files that are not as it expects.

    Args:
        name: of the model, as the user gave it.
        source: where it is, if it may be on the hub.
    """
    try:
        with silence_transformers():
            yield
    except D90Error:
        raise
    except BaseException as error:
        if not is_library_error(error):
            raise
        raise D90Error(_explanation(name, source, error)) from error


def is_library_error(error: BaseException) -> bool:
    """Whether a library raised it, rather than an interrupt.

    The tokenizers are written in Rust, where a failed assertion is not even an `Exception`.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Turn off the logs and progress bars of transformers."""
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


def _explanation(name: str, source: ModelSource | None, error: BaseException) -> str:
    reason = single_line(error, 300) or type(error).__name__
    if isinstance(error, KeyError | IndexError | TypeError | AttributeError):
        reason = f"{type(error).__name__}: {reason}"
    if source is not None and source.file is not None:
        return f"model '{name}': its GGUF file cannot be loaded: {reason}"
    if not isinstance(error, OSError) or source is None or source.is_folder:
        return f"model '{name}' cannot be loaded: {reason}"
    if "safetensors" in reason:
        return f"model '{name}' has no .safetensors weights, and d90 never loads a pickle."
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    revision = "" if source.revision is None else " and the revision"
    return (
        f"model '{name}' is not a local folder, not in the local cache, and cannot be downloaded "
        f"from the Hugging Face hub{offline}: check the name{revision}, connect once to download "
        f"it, or give a local folder.{_hint(Path(name))}"
    )


def _check_body(
    name: str, model: PreTrainedModel, fresh: set[str], *, has_new_head: bool = True
) -> None:
    """Only a new head and a pooler may be random: an incomplete model is not the pretrained one."""
    body = f"{model.base_model_prefix}." if has_new_head else ""
    missing = sorted(key for key in fresh if key.startswith(body) and "pooler" not in key)
    if missing:
        part = "the body" if has_new_head else "the language model"
        raise D90Error(
            f"model '{name}': {len(missing)} tensors of {part} are missing from its file or have "
            f"other shapes (the first is {missing[0]}): the weights do not match its config.json."
        )
