"""Database URLs without their secrets: what is printed, reported and stored of them."""

from __future__ import annotations

import re

SHOWN_OPTIONS = frozenset(
    (
        *("host", "hostaddr", "port", "dbname", "user", "application_name", "connect_timeout"),
        *("sslmode", "sslrootcert", "target_session_attrs", "gssencmode", "client_encoding"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("tcp_user_timeout", "timeout", "mode", "uri", "cache"),
    )
)
"""Options in the query of a URL that are no secret; all others are left out."""

HIDDEN = "***"

_SCHEME = re.compile(r"[A-Za-z][\w+.-]{0,30}:/?/?")
_START = re.compile(r"[A-Za-z][\w+.-]{0,30}(?=:|//)")  # bounded: else its time is quadratic
_PUNCTUATION = ".,:;)]}'\""


def is_url(text: str) -> bool:
    """Whether a text is a URL or was meant as one, rather than a path.

    >>> [is_url(text) for text in ("runs/d90.db", "postgresql:/me:secret@host/d90", "./a:b@c.db")]
    [False, True, False]
    """
    return "://" in text or (not text.startswith((".", "/", "~")) and bool(re.search(":.*@", text)))


def redact_url(url: str) -> str:
    """The URL without its password and unknown options; of an invalid one, only its scheme.

    >>> redact_url("postgresql://me:secret@host/d90?password=secret&sslmode=require")
    'postgresql://me@host/d90?sslmode=require'
    >>> redact_url("postgresql://me:sec@ret@host/d90")
    'postgresql://***'
    """
    scheme = _SCHEME.match(url)
    hidden = f"{scheme[0] if scheme else ''}{HIDDEN}"
    try:
        from sqlalchemy.engine import URL, make_url

        parsed = make_url(url)
    except Exception:  # whatever it is: better less to read than a secret
        return hidden
    # An @ in a password ends it too early; an escaped colon is none for the parser.
    if "@" in f"{parsed.host}{parsed.database}" or re.search("[@:]", parsed.username or ""):
        return hidden
    query = {name: value for name, value in parsed.query.items() if name in SHOWN_OPTIONS}
    shown = URL.create(
        parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database, query
    )
    return shown.render_as_string()


def redact(text: str) -> str:
    """A text in which every URL is without its secrets.

    >>> redact("measure --store=postgresql://me:secret@host/d90")
    'measure --store=postgresql://me@host/d90'
    """
    return re.sub(r"\S+", lambda match: _redact_word(match[0]), text)


def _redact_word(word: str) -> str:
    start = _START.search(word)
    if start is None or not is_url(word.lstrip("'\"(")):
        return word
    url = word[start.start() :].rstrip(_PUNCTUATION)
    rest = word[start.start() + len(url) :]
    return f"{word[: start.start()]}{redact_url(url)}{rest}"


def redact_argument(text: str) -> str:
    """An argument of the command line, or an option with its value, without secrets.

    >>> redact_argument("--store=postgresql:/me:secret word@host/d90")
    '--store=postgresql:/***'
    """
    option, equals, value = text.partition("=") if text.startswith("-") else ("", "", text)
    return f"{option}{equals}{redact_url(value) if is_url(value) else value}"
