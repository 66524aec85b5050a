"""One driver a study: locks that a dead driver does not keep."""

from __future__ import annotations

from d90.storage.locks.advisory import AdvisoryLock
from d90.storage.locks.base import DRIVER, Lock
from d90.storage.locks.file import FileLock
from d90.storage.locks.lease import LeaseLock

__all__ = ["DRIVER", "AdvisoryLock", "FileLock", "LeaseLock", "Lock"]
