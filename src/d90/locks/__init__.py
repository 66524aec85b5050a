"""One driver a study: locks that a dead driver does not keep."""

from __future__ import annotations

from d90.locks.advisory import AdvisoryLock
from d90.locks.base import DRIVER, Lock
from d90.locks.file import FileLock
from d90.locks.lease import LeaseLock

__all__ = ["DRIVER", "AdvisoryLock", "FileLock", "LeaseLock", "Lock"]
