"""Whether the Hugging Face hub can be reached: its libraries would retry for half a minute."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from functools import cache

CONNECT_SECONDS = 5.0


@cache
def is_reachable(url: str) -> bool:
    """Whether a server answers at this address; asked once in a process."""
    head = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(head, timeout=CONNECT_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # an answer all the same
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # as this: its certificates may be elsewhere
    except OSError:
        return False


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
