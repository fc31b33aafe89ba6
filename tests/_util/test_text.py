"""Texts of foreign origin: passwords, control characters and length."""

from __future__ import annotations

import pytest

from daelab._util.text import fit_line, hide_password, hide_passwords

URLS = {
    "postgresql://me:secret@host:1/db": "postgresql://me:***@host:1/db",
    "postgresql://:secret@host": "postgresql://:***@host",
    "postgresql://me:sec@ret@host": "postgresql://me:***@host",
    "postgresql://me:sec/ret?x#y@host": "postgresql://me:***@host",
    "postgresql://me:sec%40ret@host": "postgresql://me:***@host",
    "postgresql+psycopg://me:se:cr:et@[::1]:5/db": "postgresql+psycopg://me:***@[::1]:5/db",
    "postgresql://host/db?user=me&password=secret": "postgresql://host/db?user=me&password=***",
    "postgresql://host/db?SSLPassword=secret&application_name=a": (
        "postgresql://host/db?SSLPassword=***&application_name=a"
    ),
    "mssql+pyodbc:///?odbc_connect=DRIVER=x;PWD=secret;UID=me": "mssql+pyodbc:///?odbc_connect=DRIVER=x;PWD=***;UID=me",
    "postgresql:me:secret@host": "postgresql:me:***@host",
    "postgresql:/me:secret@host": "postgresql:/me:***@host",
    "postgres//me:secret@host": "postgres//me:***@host",
    "me:secret@host": "me:***@host",
    "sqlite:////home/me@work/ledger.db": "sqlite:////home/me@work/ledger.db",
    "sqlite:///C:/ledger.db": "sqlite:///C:/ledger.db",
    "postgresql://me@host/db": "postgresql://me@host/db",
    "postgresql://me:two words@host/db?password=my secret&x=1": "postgresql://me:***@host/db?password=***&x=1",
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_shown_without_its_passwords(url: str) -> None:
    assert hide_password(url) == URLS[url]
    assert "secret" not in hide_passwords(f"ledger {url}: not reachable") or "://" not in url


@pytest.mark.parametrize(
    "text",
    [
        "connection to 'mysql://a:secret@h/d' failed",
        "password=secret host=h",
        "token = \"se cret\"; pwd='secret x'",
        '{"password": "se cret", "db_passwd" : "secret"}',
        "{'sslpassword': 'secret'}",
        "Authorization: Bearer secret",
        "authorization: basic secret",
        "cannot reach postgresql://me:one two secret@host/db, nor its copy",
        'cannot reach postgresql://two words:it\'s "se cret"@host',
        "mysql:me:p@ss secret@host",
        "mongodb://me:se\ncret@host",
        "password=two words, and a secret",
        "login failed: password='it\\'s secret' host=h",
        "password='it's secret' host=h",
        "password='no end of the secret",
        "postgresql://host/db?user=me&password=my dear secret&sslmode=x",
        "PGPASSWORD=se cret",
    ],
)
def test_a_text_is_shown_without_its_passwords(text: str) -> None:
    assert "cret" not in hide_passwords(text)


@pytest.mark.parametrize(
    "text",
    [
        "evaluate mynets:Small@small, or another: runs/a",
        "http://127.0.0.1:8765/ is open",
        "sqlite:////home/me@work/ledger.db: database is locked",
        "C:/Users/me: access denied",
    ],
)
def test_a_text_without_passwords_is_left_as_it_is(text: str) -> None:
    assert hide_passwords(text) == text


def test_a_long_text_keeps_its_start_and_its_end() -> None:
    line = fit_line("start\x1b[31m\n next " + "x" * 10_000_000 + "\u202e end", 100)
    assert len(line) <= 100
    assert line.startswith("start\\u001b[31m next xxx")
    assert line.endswith("\\u202e end")
    assert fit_line("short") == "short"
