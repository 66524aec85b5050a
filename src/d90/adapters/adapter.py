"""An adapter: a seed and d parameters, with the metadata that defines them.

Imports no torch: an adapter can be inspected without it.
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
from d90.search.subspace_config import MAX_SEED, SubspaceConfig
from d90.utils.files import as_path, atomic_write

VERSION = "1"
SCHEME = "philox-v1"
"""Equal to `d90.rng.philox.SCHEME` (a test compares them), whose import would load torch."""

MAX_BYTES = 1 << 28
"""Maximum size of a file in bytes: 67 million parameters."""

DEFAULT_DTYPE = "float32"
DEFAULT_KIND = "classification"
"""Equal to `d90.tasks.task.CLASSIFICATION`; a file names neither, since every byte counts."""
GENERATION = "generation"
"""Equal to the name of `d90.tasks.kinds.Generation`, whose plain texts have no prompt column."""

TENSOR_DTYPES = {"float32": "F32", "float16": "F16", "uniform": "U8", "levels": "U8"}


@dataclass(frozen=True)
class BaseModelInfo:
    """The pretrained model that a file belongs to.

    Attributes:
        name: a hub id, a packaged model, or the own name of a local folder or file (`public_name`).
        revision: commit on the hub; empty where there is none.
        fingerprint: of the trainable weights, `d90.adapters.fingerprint`: 64 hexadecimal digits.
        D: number of trainable weights, head included.
        head_seed: seed of the new head inside theta_0.
        dtype: of the weights, such as `float32`.
    """

    name: str
    revision: str
    fingerprint: str
    D: int
    head_seed: int = 0
    dtype: str = DEFAULT_DTYPE


@dataclass(frozen=True)
class TaskInfo:
    """What the parameters were trained for.

    Attributes:
        name: of the task.
        text_columns: one, or two for pairs; in generation, that of the prompts or none.
        labels: names of the classes, by class index; empty if there are none.
        max_length: maximum tokens per example.
        metric: name of the metric.
        metric_value: the metric on the primary evaluation split; NaN if unknown.
        kind: of the task, a key of `d90.tasks.KINDS`.
        options: what the kind keeps besides the labels.
    """

    name: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    max_length: int
    metric: str
    metric_value: float
    kind: str = DEFAULT_KIND
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Adapter:
    """The parameters of a fine-tuned model, and how they are encoded.

    Attributes:
        parameters: float32, shape (d,): z, followed by lam in SAID.
        subspace: the subspace of the coordinates; its d is never None.
        base, task: the pretrained model, and what it was fine-tuned for.
        m: number of entries of lam; 0 in DID.
        codec: how they are encoded, a key of `d90.adapters.codecs.CODECS`.
        data: the encoded parameters.
    """

    parameters: FloatArray
    subspace: SubspaceConfig
    base: BaseModelInfo
    task: TaskInfo
    m: int
    codec: str = "float32"
    data: bytes = field(default=b"", repr=False)

    @property
    def d(self) -> int:
        """Number of trained parameters."""
        return len(self.parameters)

    @property
    def z(self) -> FloatArray:
        """The coordinates, shape (d - m,)."""
        return self.parameters[: self.d - self.m]

    @property
    def lam(self) -> FloatArray:
        """The scales of SAID, shape (m,)."""
        return self.parameters[self.d - self.m :]

    @property
    def bits(self) -> int:
        """Bits of the encoded parameters, codebook and prior included."""
        return 8 * len(self.data)

    def with_codec(self, codec: Codec) -> Adapter:
        """The adapter in another codec, with the parameters that its file decodes to.

        Raises:
            D90Error: a parameter is not finite, or the codec cannot encode the parameters.
        """
        _check_parameters(self.parameters, self.subspace.d)
        shift = self.m if codec.shifts_lam else 0
        data = codec.encode(_shifted(self.parameters, shift, -1))
        parameters = _shifted(codec.decode(data, self.d), shift, 1)
        return replace(self, parameters=parameters, codec=codec_name(codec), data=data)

    def to_bytes(self) -> bytes:
        """The content of the file, deterministic."""
        return pack(Content(_metadata(self), TENSOR_DTYPES[self.codec], self.data))

    def save(self, path: str | Path) -> int:
        """Write the file atomically; returns its size in bytes.

        Raises:
            D90Error: the file cannot be written.
        """
        content = self.to_bytes()
        try:
            atomic_write(Path(path), content)
        except OSError as error:
            raise D90Error(f"'{path}' cannot be written: {error.strerror}.") from error
        return len(content)


def new_adapter(
    parameters: FloatArray,
    subspace: SubspaceConfig,
    base: BaseModelInfo,
    task: TaskInfo,
    *,
    m: int = 0,
) -> Adapter:
    """An adapter in float32.

    Args:
        parameters: shape (d,): z, followed by lam in SAID.
        subspace, base, task: as in `Adapter`.
        m: number of entries of lam.

    Raises:
        D90Error: the parameters are not d finite numbers.
    """
    adapter = Adapter(np.asarray(parameters, dtype=np.float32), subspace, base, task, m)
    return adapter.with_codec(Float32Codec())


def public_name(name: str) -> str:
    """The name of a model or task as an adapter stores it: no private path, no revision.

    A local folder or file goes by its own name, a hub id by the id.

    >>> public_name("org/model@v2")
    'org/model'
    """
    path = as_path(name, "name")
    return path.resolve().name if path.exists() else name.partition("@")[0]


def check_generates(task: TaskInfo, expected: bool) -> None:
    """Refuse an adapter that does not generate text, or one that does.

    Raises:
        D90Error: naming what can be done with it.
    """
    if expected and task.kind != GENERATION:
        raise D90Error(
            f"the adapter for '{task.name}' is of {task.kind}, which generates no text: "
            "predict with it, by d90 predict."
        )
    if not expected and task.kind == GENERATION:
        raise D90Error(
            f"the adapter for '{task.name}' is of generation, which has no single prediction: "
            "complete prompts with it, by d90 generate."
        )


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter; nothing in it is executed.

    Raises:
        D90Error: the file is missing, or not a complete, unaltered adapter of a known version.
    """
    try:
        with as_path(path, "adapter").open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise D90Error(f"adapter '{path}' cannot be read: {error.strerror}.") from error
    try:
        return from_bytes(content)
    except D90Error as error:
        raise D90Error(f"adapter '{path}': {error}") from error


def from_bytes(content: bytes) -> Adapter:
    """The adapter that these bytes encode.

    Raises:
        D90Error: as `load_adapter`.
    """
    if len(content) > MAX_BYTES:
        raise D90Error(f"it has more than {MAX_BYTES:,} bytes.")
    container = unpack(content)
    metadata = container.metadata
    _check_version(metadata)
    try:
        subspace, D, m, head_seed = _parse_subspace(metadata["space"])
        base = _parse_base(metadata["base"], D, head_seed)
        task, codec = _parse_task(metadata), metadata["code"]
    except (KeyError, ValueError) as error:
        if isinstance(error, D90Error):
            raise
        raise D90Error(f"its metadata are damaged ({error}).") from error
    decoder = get_codec(codec)
    if container.dtype != TENSOR_DTYPES[codec]:
        raise D90Error(f"its tensor is {container.dtype}, which does not fit the codec {codec}.")
    assert subspace.d is not None
    decoded = decoder.decode(container.data, subspace.d)
    parameters = _shifted(decoded, m if decoder.shifts_lam else 0, 1)
    _check_parameters(parameters, subspace.d)
    adapter = Adapter(parameters, subspace, base, task, m, codec, container.data)
    if adapter.to_bytes() != content:
        raise D90Error("its metadata are damaged (they are not as d90 writes them).")
    return adapter


def _metadata(adapter: Adapter) -> dict[str, str]:
    subspace, base, task = adapter.subspace, adapter.base, adapter.task
    options = (f"{name}={value}" for name, value in task.options.items())
    kind = {"labels": _join(*task.labels)}
    if task.kind != DEFAULT_KIND:
        kind = {"kind": _join(task.kind, *options)}
    return {
        "d90": VERSION,
        "random": SCHEME,
        "space": _join(
            subspace.projection,
            subspace.scale,
            subspace.method,
            subspace.groups,
            *map(str, (adapter.d, base.D, adapter.m, subspace.seed, base.head_seed)),
        ),
        "base": _join(
            base.name, base.revision, _to_base64(base.fingerprint), *_if_not_default(base.dtype)
        ),
        "task": _join(task.name, *task.text_columns),
        **kind,
        "metric": _join(task.metric, f"{task.metric_value:.4f}", str(task.max_length)),
        "code": adapter.codec,
    }


def _join(*fields: str) -> str:
    """Fields joined by spaces; a space inside a field is %20."""
    return " ".join(quote(value, safe="/:@._~+=,'()-") for value in fields)


def _split(text: str) -> list[str]:
    return [unquote(value, errors="strict") for value in text.split(" ")]


def _check_version(metadata: Mapping[str, str]) -> None:
    version, scheme = metadata.get("d90"), metadata.get("random")
    if (version, scheme) != (VERSION, SCHEME):
        raise D90Error(
            f"it is of version {str(version)[:20]} with {str(scheme)[:20]}, and this d90 reads "
            f"version {VERSION} with {SCHEME}: use the d90 that wrote it, or a later one."
        )


def _parse_subspace(text: str) -> tuple[SubspaceConfig, int, int, int]:
    """The subspace, D, m and the seed of the head."""
    *names, d, D, m, seed, head_seed = _split(text)
    projection, scale, method, groups = (name[:20] for name in names)
    d, D, m, seed, head_seed = (_parse_integer(value) for value in (d, D, m, seed, head_seed))
    if not 0 < d <= D or not 0 <= m < d or max(seed, head_seed) > MAX_SEED:
        raise D90Error(f"its subspace is impossible: d = {d}, D = {D}, m = {m}.")
    return SubspaceConfig(method, groups, projection, scale, d, seed), D, m, head_seed


def _parse_integer(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise D90Error("its subspace is damaged.")
    return int(text)


def _parse_base(text: str, D: int, head_seed: int) -> BaseModelInfo:
    name, revision, fingerprint, *dtype = _split(text)
    if len(dtype) > 1 or dtype == [DEFAULT_DTYPE]:
        raise D90Error("its base model is damaged.")
    return BaseModelInfo(name, revision, _from_base64(fingerprint), D, head_seed, *dtype)


def _if_not_default(dtype: str) -> tuple[str, ...]:
    """Stored only if it is not float32, since every byte counts in a file this small."""
    return () if dtype == DEFAULT_DTYPE else (dtype,)


def _to_base64(fingerprint: str) -> str:
    """64 hexadecimal digits as 43 characters."""
    return urlsafe_b64encode(bytes.fromhex(fingerprint)).decode().rstrip("=")


def _from_base64(text: str) -> str:
    if len(text) != 43:
        raise D90Error("the fingerprint of its base model is damaged.")
    return urlsafe_b64decode(text + "=").hex()


def _parse_task(metadata: Mapping[str, str]) -> TaskInfo:
    name, *columns = _split(metadata["task"])
    labels, kind, options = (), DEFAULT_KIND, {}
    if "kind" in metadata:
        kind, *pairs = _split(metadata["kind"])
        options = dict(pair.split("=", 1) for pair in pairs)
    else:
        labels = tuple(_split(metadata["labels"]))
    metric, metric_value, max_length = _split(metadata["metric"])
    few = 2 if kind == DEFAULT_KIND else 0
    fewest = 0 if kind == GENERATION else 1
    if not fewest <= len(columns) <= 2 or len(labels) < few or len(set(labels)) < len(labels):
        raise D90Error("its columns or labels are damaged.")
    value = float(metric_value)
    if math.isinf(value):
        raise D90Error("the value of its metric is infinite.")
    length = _parse_integer(max_length)
    return TaskInfo(name, tuple(columns), labels, length, metric, value, kind, options)


def _check_parameters(parameters: FloatArray, d: int | None) -> None:
    if parameters.shape != (d,):
        raise D90Error(f"it has parameters of shape {parameters.shape}: expected ({d},).")
    if not np.isfinite(parameters).all():
        raise D90Error("some of its parameters are not finite.")


def _shifted(parameters: FloatArray, m: int, by: int) -> FloatArray:
    """The parameters with `by` added to the last m of them."""
    shifted = np.array(parameters, dtype=np.float32)
    with np.errstate(invalid="ignore"):  # What is not finite is refused later.
        shifted[len(shifted) - m :] += np.float32(by)
    return shifted


def assert_same_subspace(adapters: Sequence[Adapter]) -> None:
    """Refuse adapters whose parameters are coordinates in different subspaces.

    Raises:
        D90Error: the subspaces or base models differ.
    """
    first = adapters[0]
    for other in adapters[1:]:
        if _coordinates(other) != _coordinates(first):
            raise D90Error(
                "the files do not share a projection and a base model, so their parameters mean "
                f"different directions: {first.subspace} of {first.base.name}, and "
                f"{other.subspace} of {other.base.name}."
            )


def _coordinates(adapter: Adapter) -> tuple[object, ...]:
    base = adapter.base
    return adapter.subspace, adapter.m, base.D, base.head_seed, base.fingerprint
