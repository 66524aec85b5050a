"""GGUF files, llama.cpp's format of models: checked here, dequantized by transformers.

The file is not trusted. The readers of the packages `gguf` and transformers take the counts in it
at their word, so `check_gguf` first walks through all that is before the weights. Nothing in the
file is executed; its chat template is Jinja, which transformers renders in a sandbox.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers.utils.quantization_config as quantization
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from d90.errors import D90Error

SUFFIX = ".gguf"

STRING, ARRAY, UINT32 = 8, 9, 4
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by the number of its type."""

MAX_ELEMENTS = 1 << 21
"""Of all arrays: the reader makes an object of each. Those of 250,000 tokens have a million."""

MAX_EXPERTS = 1 << 12
"""Of a mixture: some classes of transformers have a module of each."""


@dataclass(frozen=True)
class GgufHeader:
    """What is before the weights.

    Attributes:
        num_weights: of all tensors together.
        num_tokens: of the tokenizer.
    """

    num_weights: int
    num_tokens: int


def check_gguf(path: Path) -> GgufHeader:
    """Check that a file is a whole GGUF file whose counts are possible.

    Source: docs/gguf.md of ggml, versions 2 and 3.

    Raises:
        D90Error: it is not; its package is not installed.
    """
    if find_spec("gguf") is None:
        raise D90Error(
            f"model '{path}' is a GGUF file, which needs the package gguf: pip install 'd90[gguf]'."
        )
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Walk(data).header()
    except (OSError, ValueError, struct.error) as error:  # mmap of an empty file: a ValueError.
        raise D90Error(f"model '{path}' is no valid GGUF file: {error}.") from error


@dataclass
class _Walk:
    """A position in a file.

    Attributes:
        data: the file.
        position: of the next byte.
        elements: of the arrays so far.
        values: the metadata, as `value` gives them.
    """

    data: mmap.mmap
    position: int = 0
    elements: int = 0
    values: dict[str, Any] = field(default_factory=dict)

    def header(self) -> GgufHeader:
        """Everything up to the weights.

        Raises:
            ValueError: as `check_gguf`.
        """
        if self.take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, tensors, entries = self.unpack("<IQQ")
        if version not in (2, 3):
            raise ValueError(f"its version is {version:,}, expected 2 or 3, little-endian")
        for _ in range(entries):
            key = self.string()
            if key in self.values:
                raise ValueError(f"{key!r:.60} occurs twice")
            self.values[key] = self.value(*self.unpack("<I"))
        self._check_values()
        sizes = [self.tensor() for _ in range(tensors)]
        alignment = self.values.get("general.alignment", 32)
        start = -(-self.position // alignment) * alignment
        end = max((start + offset + size for offset, size, _ in sizes), default=start)
        if end > len(self.data):
            raise ValueError(f"it is cut off: {len(self.data):,} of {end:,} bytes")
        return GgufHeader(
            num_weights=sum(count for *_, count in sizes),
            num_tokens=self.values["tokenizer.ggml.tokens"],
        )

    def _check_values(self) -> None:
        if not isinstance(self.values.get("general.architecture"), str):
            raise ValueError("it has no general.architecture")
        if not isinstance(self.values.get("tokenizer.ggml.tokens"), int):
            raise ValueError("it has no tokenizer.ggml.tokens")
        if not isinstance(self.values.get("tokenizer.chat_template", ""), str):
            raise ValueError("tokenizer.chat_template is no text")
        alignment = self.values.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is {alignment!r:.20}")
        parts = self.values.get("split.count", 1)
        if parts not in (0, 1):
            raise ValueError(
                f"it is one of {parts!r:.20} parts: join them with llama-gguf-split --merge"
            )
        for key, value in self.values.items():
            if "expert" in key and isinstance(value, int) and value > MAX_EXPERTS:
                raise ValueError(f"{key!r:.60} is {value:,}")

    def take(self, size: int) -> bytes:
        """The next bytes."""
        self.skip(size)
        return self.data[self.position - size : self.position]

    def skip(self, size: int) -> None:
        """Go on by `size` bytes."""
        if size > len(self.data) - self.position:
            raise ValueError(f"it is cut off, or a length at byte {self.position:,} is wrong")
        self.position += size

    def unpack(self, form: str) -> tuple[Any, ...]:
        """The next numbers."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def string(self) -> str:
        """The next text."""
        return self.take(*self.unpack("<Q")).decode()

    def value(self, kind: int) -> Any:
        """The next value: an integer, a text, the length of an array, or None for all others."""
        if kind == STRING:
            return self.string()
        if kind in (UINT32, 5, 10, 11):
            return self.unpack({UINT32: "<I", 5: "<i", 10: "<Q", 11: "<q"}[kind])[0]
        if kind in WIDTHS:
            return self.skip(WIDTHS[kind])
        if kind != ARRAY:
            raise ValueError(f"a value of type {kind:,}, which is not known")
        kind, length = self.unpack("<IQ")
        self.elements += length
        if self.elements > MAX_ELEMENTS:
            raise ValueError(f"an array of {length:,} elements at byte {self.position:,}")
        if kind == STRING:
            for _ in range(length):
                self.skip(*self.unpack("<Q"))
        elif kind in WIDTHS:
            self.skip(length * WIDTHS[kind])
        else:
            raise ValueError(f"an array of type {kind:,}, which transformers does not read")
        return length

    def tensor(self) -> tuple[int, int, int]:
        """Of the next tensor: its offset and size in bytes, and how many weights it has."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self.string()
        (dimensions,) = self.unpack("<I")
        if not 1 <= dimensions <= 4:
            raise ValueError(f"tensor {name!r:.60} has {dimensions:,} dimensions")
        shape = self.unpack(f"<{dimensions}Q")
        kind, offset = self.unpack("<IQ")
        per_block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if shape[0] % per_block or not all(shape):
            raise ValueError(f"tensor {name!r:.60} has the shape {shape}, blocks of {per_block}")
        count = math.prod(shape)
        return offset, count // per_block * size, count


def model_options(file: str) -> dict[str, Any]:
    """Arguments of a model's `from_pretrained`.

    Weights that stay in their blocks, as newer transformers leave them, can be neither trained nor
    saved.
    """
    config = getattr(quantization, "GgufConfig", None)
    dense = {} if config is None else {"quantization_config": config(dequantize=True)}
    return {"gguf_file": file, **dense}


def tokenizer_of(
    folder: str, file: str, num_tokens: int, longest: int | None
) -> PreTrainedTokenizerBase:
    """The tokenizer in the file itself: one that lies beside it may be another model's.

    Args:
        folder, file: where it is.
        num_tokens: that the file lists. transformers makes a byte-level tokenizer with a token
            `<|endoftext|>` of its own, for which the model has no row where the file has none.
        longest: input that the model takes, in tokens.
    """
    found = PreTrainedTokenizerFast(name_or_path=folder, gguf_file=file, model_max_length=longest)
    if len(found) <= num_tokens:
        return found
    content = json.loads(found.backend_tokenizer.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < num_tokens]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        model_max_length=longest,
        chat_template=found.chat_template,
        **found.special_tokens_map,
    )


@contextmanager
def read_once() -> Iterator[None]:
    """Let transformers read each file's header once, and draw no progress bar.

    It reads it for the configuration and again for the weights, and makes the table of tensor names
    once for every module: half of the time that loading a small model takes.
    """
    if find_spec("gguf") is None:
        yield
        return
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils.logging import tqdm

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (gguf, "GGUFReader", cache(gguf.GGUFReader)),
        (gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        (reader, "tqdm", tqdm),
    ]
    originals = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(replaced, originals, strict=True):
            setattr(owner, name, value)
