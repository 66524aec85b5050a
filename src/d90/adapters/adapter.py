"""A task file: a seed and d numbers, with all that says what they mean.

No torch here: a file can be looked at where there is none.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from d90.adapters.codecs import Codec, Float32Codec, FloatArray, codec_name, get_codec
from d90.adapters.container import Content, pack, unpack
from d90.errors import D90Error
from d90.utils.files import atomic_write

VERSION = "1"
SCHEME = "philox-v1"
"""As `d90.rng.philox.SCHEME`, which a test compares it with: importing that loads torch."""

LARGEST_FILE = 1 << 28
"""Bytes of a file that is read: 67 million numbers."""

USUAL_DTYPE = "float32"

KINDS = {"float32": "F32", "float16": "F16", "uniform": "U8", "levels": "U8"}


@dataclass(frozen=True)
class BaseModelInfo:
    """The pretrained model that a file belongs to.

    Attributes:
        name: hub id, folder or packaged model, as it was given.
        revision: of the hub; empty where there is none.
        fingerprint: of the projected weights, `d90.adapters.fingerprint`: 64 hexadecimal digits.
        dtype: that they were loaded in.
    """

    name: str
    revision: str
    fingerprint: str
    dtype: str = USUAL_DTYPE


@dataclass(frozen=True)
class SubspaceConfig:
    """The subspace that the numbers are coordinates in.

    Attributes:
        projection, scale, method, groups: as in `d90.subspace.attach`.
        d: how many numbers; D: how many weights; m: how many of the d numbers are lam.
        seed: of P; head_seed: of the fresh head inside theta_0.
    """

    projection: str
    scale: str
    method: str
    groups: str
    d: int
    D: int
    m: int
    seed: int
    head_seed: int


@dataclass(frozen=True)
class TaskInfo:
    """What the numbers were trained for.

    Attributes:
        task: its name.
        text_columns: one, or two for pairs.
        labels: names of the classes, in their order.
        max_length: tokens a text or pair, at most.
        metric: name of the metric, and `reached`, what it was on the evaluation split.
    """

    name: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    max_length: int
    metric: str
    metric_value: float


@dataclass(frozen=True, eq=False)
class Adapter:
    """A fine-tune.

    Attributes:
        numbers: float32, shape (d,): z, and in SAID lam behind it.
        space, base, use: what they mean.
        code: the name of how they are written, a key of `d90.adapters.codecs.CODES`.
        data: the numbers as they are written.
    """

    parameters: FloatArray
    subspace: SubspaceConfig
    base: BaseModelInfo
    task: TaskInfo
    codec: str = "float32"
    data: bytes = field(default=b"", repr=False)

    @property
    def z(self) -> FloatArray:
        """The coordinates, shape (d - m,)."""
        return self.parameters[: len(self.parameters) - self.subspace.m]

    @property
    def lam(self) -> FloatArray:
        """The scales of SAID, shape (m,)."""
        return self.parameters[len(self.parameters) - self.subspace.m :]

    @property
    def bits(self) -> int:
        """Bits of the numbers as they are written, codebook and prior included."""
        return 8 * len(self.data)

    def with_codec(self, code: Codec) -> Adapter:
        """The same in another code: its numbers are those that a reader will find.

        Raises:
            D90Error: when the code cannot write them.
        """
        shift = self.subspace.m if code.departs else 0
        data = code.encode(_shifted(self.parameters, shift, -1))
        numbers = _shifted(code.decode(data, self.subspace.d), shift, 1)
        return replace(self, parameters=numbers, codec=codec_name(code), data=data)

    def to_bytes(self) -> bytes:
        """The file, the same bytes every time."""
        return pack(Content(_words(self), KINDS[self.codec], self.data))

    def save(self, path: str | Path) -> int:
        """Write the file, whole or not at all; its size in bytes.

        Raises:
            D90Error: when it cannot be written.
        """
        content = self.to_bytes()
        try:
            atomic_write(Path(path), content)
        except OSError as error:
            raise D90Error(f"'{path}' cannot be written: {error.strerror}.") from error
        return len(content)


def new_adapter(
    numbers: FloatArray, space: SubspaceConfig, base: BaseModelInfo, use: TaskInfo
) -> Adapter:
    """A task file in float32.

    Raises:
        D90Error: when the numbers are not d finite ones.
    """
    _check_numbers(numbers, space.d)
    file = Adapter(np.asarray(numbers, dtype=np.float32), space, base, use)
    return file.with_codec(Float32Codec())


def load_adapter(path: str | Path) -> Adapter:
    """Read a task file, with nothing in it executed.

    Raises:
        D90Error: it is not there, or not a whole, unaltered task file of a version that is known.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise D90Error(f"task file '{path}' cannot be read: {error.strerror}.") from error
    try:
        return from_bytes(content)
    except D90Error as error:
        raise D90Error(f"task file '{path}': {error}") from error


def from_bytes(content: bytes) -> Adapter:
    """The task file of these bytes.

    Raises:
        D90Error: as `load`.
    """
    if len(content) > LARGEST_FILE:
        raise D90Error(f"it has more than {LARGEST_FILE:,} bytes.")
    found = unpack(content)
    words = found.metadata
    _check_version(words)
    try:
        space, base, use = _space(words["space"]), _base(words["base"]), _use(words)
        code = words["code"]
    except (KeyError, ValueError) as error:
        if isinstance(error, D90Error):
            raise
        raise D90Error(f"its metadata are damaged ({error}).") from error
    kind = get_codec(code)
    if found.kind != KINDS[code]:
        raise D90Error(f"its numbers are {found.kind}, and its code is {code}.")
    numbers = _shifted(kind.decode(found.data, space.d), space.m if kind.departs else 0, 1)
    _check_numbers(numbers, space.d)
    file = Adapter(numbers, space, base, use, code, found.data)
    if file.to_bytes() != content:
        raise D90Error("its metadata are damaged (they are not as d90 writes them).")
    return file


def _words(file: Adapter) -> dict[str, str]:
    space, base, use = file.subspace, file.base, file.task
    return {
        "d90": VERSION,
        "random": SCHEME,
        "space": _joined(
            space.projection,
            space.scale,
            space.method,
            space.groups,
            *map(str, (space.d, space.D, space.m, space.seed, space.head_seed)),
        ),
        "base": _joined(
            base.name, base.revision, _shorter(base.fingerprint), *_unusual(base.dtype)
        ),
        "task": _joined(use.name, *use.text_columns),
        "labels": _joined(*use.labels),
        "metric": _joined(use.metric, f"{use.metric_value:.4f}", str(use.max_length)),
        "code": file.codec,
    }


def _joined(*words: str) -> str:
    """Words with a space between them; one inside a word is %20."""
    return " ".join(quote(word, safe="/:@._~+=,'()-") for word in words)


def _split(text: str) -> list[str]:
    return [unquote(word, errors="strict") for word in text.split(" ")]


def _check_version(words: Mapping[str, str]) -> None:
    found = words.get("d90"), words.get("random")
    if found != (VERSION, SCHEME):
        raise D90Error(
            f"it is of version {str(found[0])[:20]} with {str(found[1])[:20]}, and this d90 reads "
            f"version {VERSION} with {SCHEME}: use the d90 that wrote it, or a later one."
        )


def _space(text: str) -> SubspaceConfig:
    projection, scale, method, groups, *counts = _split(text)
    d, D, m, seed, head_seed = (_count(word) for word in counts)
    if not 0 < d <= D or not 0 <= m < d or max(seed, head_seed) >= 2**64:
        raise D90Error(f"its subspace cannot be: d = {d}, D = {D}, m = {m}.")
    return SubspaceConfig(projection, scale, method, groups, d, D, m, seed, head_seed)


def _count(word: str) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 20:
        raise D90Error("its subspace is damaged.")
    return int(word)


def _base(text: str) -> BaseModelInfo:
    name, revision, fingerprint, *unusual = _split(text)
    if len(unusual) > 1 or unusual == [USUAL_DTYPE]:
        raise D90Error("its base model is damaged.")
    return BaseModelInfo(name, revision, _longer(fingerprint), *unusual)


def _unusual(dtype: str) -> tuple[str, ...]:
    """Said only where it is not float32: a file of bytes counts them."""
    return () if dtype == USUAL_DTYPE else (dtype,)


def _shorter(fingerprint: str) -> str:
    """64 hexadecimal digits as 43 letters."""
    return urlsafe_b64encode(bytes.fromhex(fingerprint)).decode().rstrip("=")


def _longer(letters: str) -> str:
    if len(letters) != 43:
        raise D90Error("the fingerprint of its base model is damaged.")
    return urlsafe_b64decode(letters + "=").hex()


def _use(words: Mapping[str, str]) -> TaskInfo:
    task, *columns = _split(words["task"])
    labels = tuple(_split(words["labels"]))
    metric, reached, max_length = _split(words["metric"])
    if not 1 <= len(columns) <= 2 or len(labels) < 2 or len(set(labels)) < len(labels):
        raise D90Error("its columns or labels are damaged.")
    value = float(reached)
    if math.isinf(value):
        raise D90Error("the metric that it reached is infinite.")
    return TaskInfo(task, tuple(columns), labels, _count(max_length), metric, value)


def _check_numbers(numbers: FloatArray, d: int) -> None:
    if numbers.shape != (d,):
        raise D90Error(f"it has numbers of shape {numbers.shape}: expected ({d},).")
    if not np.isfinite(numbers).all():
        raise D90Error("some of its numbers are not finite.")


def _shifted(numbers: FloatArray, m: int, by: int) -> FloatArray:
    """The numbers with `by` added to the last m of them."""
    shifted = np.array(numbers, dtype=np.float32)
    shifted[len(shifted) - m :] += np.float32(by)
    return shifted


def assert_same_subspace(files: Sequence[Adapter]) -> None:
    """Refuse files whose numbers are coordinates in different subspaces.

    Raises:
        D90Error: naming the first difference.
    """
    first = files[0]
    for other in files[1:]:
        if other.subspace != first.subspace or other.base.fingerprint != first.base.fingerprint:
            raise D90Error(
                "the files do not share a projection and a base model, so their numbers mean "
                f"different directions: {first.subspace} of {first.base.name}, and "
                f"{other.subspace} of {other.base.name}."
            )
