"""A fine-tune as a file: a seed and d numbers. No torch but in `fingerprint` and `attach`."""

from d90.adapters.adapter import Base, Space, TaskFile, Use, from_bytes, load, new, same_space
from d90.adapters.codecs import CODES, Code, Float16, Float32, Levels, Uniform

__all__ = [
    "CODES",
    "Base",
    "Code",
    "Float16",
    "Float32",
    "Levels",
    "Space",
    "TaskFile",
    "Uniform",
    "Use",
    "from_bytes",
    "load",
    "new",
    "same_space",
]
