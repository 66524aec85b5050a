"""Adapters: a fine-tune as a seed and d parameters. Only `fingerprint` and `model` load torch."""

from d90.adapters.adapter import (
    Adapter,
    BaseModelInfo,
    TaskInfo,
    assert_same_subspace,
    from_bytes,
    load_adapter,
    new_adapter,
    public_name,
)
from d90.adapters.codecs import (
    CODECS,
    CodebookCodec,
    Codec,
    Float16Codec,
    Float32Codec,
    UniformCodec,
)
from d90.search.subspace_config import SubspaceConfig

__all__ = [
    "CODECS",
    "Adapter",
    "BaseModelInfo",
    "CodebookCodec",
    "Codec",
    "Float16Codec",
    "Float32Codec",
    "SubspaceConfig",
    "TaskInfo",
    "UniformCodec",
    "assert_same_subspace",
    "from_bytes",
    "load_adapter",
    "new_adapter",
    "public_name",
]
