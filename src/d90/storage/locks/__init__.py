"""Locks that allow one driver per study, and end with its process."""

from __future__ import annotations

from d90.storage.locks.advisory import AdvisoryLock
from d90.storage.locks.base import DRIVER, Lock
from d90.storage.locks.file import FileLock

__all__ = ["DRIVER", "AdvisoryLock", "FileLock", "Lock"]
