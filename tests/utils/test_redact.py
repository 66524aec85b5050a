"""No part of a password is in what is left of a URL."""

from __future__ import annotations

import pytest

from d90.utils.redact import redact, redact_argument, redact_url

SECRET = "s3cr3t"

URLS = [
    f"postgresql://me:{SECRET}@host/d90",
    f"postgresql+psycopg://me:{SECRET}@host:5432/d90?sslmode=require",
    f"postgresql://me:a/{SECRET}@host/d90",
    f"postgresql://me:a/{SECRET}/b@host/d90",
    f"postgresql://me:a?{SECRET}@host/d90",
    f"postgresql://me:a#{SECRET}@host/d90",
    f"postgresql://me:a@{SECRET}@host/d90",
    f"postgresql://me:a@b/{SECRET}@host/d90",
    f"postgresql://me:a@b:1/{SECRET}@host/d90",
    f"postgresql://me:%2F{SECRET}%40@host/d90",
    f"postgresql://me%3A{SECRET}@host/d90",
    f"postgresql://:{SECRET}@host/d90",
    f"postgresql://me:{SECRET}@[::1]:5432/d90",
    f"postgresql://me:{SECRET}@host:port/d90",
    f"postgresql://me:{SECRET}",
    f"postgresql://me@host/d90?password={SECRET}",
    f"postgresql://me@host/d90?sslmode=require&password={SECRET}&password={SECRET}",
    f"postgresql://me@host/d90?sslpassword={SECRET}",
    f"postgresql://me@host/d90?passwd={SECRET}&PASSWORD={SECRET}",
    f"postgresql:/me:{SECRET}@host/d90",
    f"postgresql:me:{SECRET}@host/d90",
    f"postgresql//me:{SECRET}@host/d90",
    f"mysql://me:{SECRET}@host/d90",
    f"https://me:{SECRET}@host/path?token={SECRET}",
]
"""Each with the secret in another place; some are no valid URL."""


@pytest.mark.parametrize("url", URLS)
def test_urls(url: str) -> None:
    assert SECRET not in redact_url(url)
    assert SECRET not in redact_argument(url)
    assert SECRET not in redact_argument(f"--store={url}")
    if "://" in url:
        assert SECRET not in redact(f"Got unexpected extra argument ({url}). See d90 --help.")


@pytest.mark.parametrize(
    "text",
    [
        "ray://host:10001",
        "postgresql://me@host:5432/d90?sslmode=require",
        "sqlite:///runs/d90.db",
        "model@v1.0",
        "wikipedia:20220301.en",
        "./my:file@home.db",
        "--max-length=16",
    ],
)
def test_what_holds_no_secret_is_unchanged(text: str) -> None:
    assert redact_argument(text) == redact(text) == text
