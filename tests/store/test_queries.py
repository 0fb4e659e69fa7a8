"""SQL by name: the files parse, every name is given once, and every query fits the migrated schema."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from brewd.runtime.bridge import Bridge
from brewd.store.queries import QueryError, load_queries, parse_queries


def test_a_file_is_split_at_its_headers() -> None:
    text = """-- What this file is about.

-- name: first
SELECT 1;

-- name: second
-- why it is so
SELECT $1::int
"""
    assert parse_queries("x.sql", text) == {"first": "SELECT 1", "second": "-- why it is so\nSELECT $1::int"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1", "before the first"),
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "there twice"),
        ("-- name: a\n-- nothing here\n", "no SQL"),
        ("-- name: Drop-It\nSELECT 1", "no name for a query"),
    ],
)
def test_a_broken_file_is_named_with_its_fault(text: str, complaint: str) -> None:
    with pytest.raises(QueryError, match=complaint) as caught:
        parse_queries("broken.sql", text)
    assert "broken.sql" in str(caught.value)


async def test_every_query_prepares_against_the_migrated_schema(bridge: Bridge, postgres_dsn: str) -> None:
    """A typing mistake in SQL shows here, and not at three in the morning."""

    async def prepare_all(queries: dict[str, str]) -> dict[str, str]:
        connection = await asyncpg.connect(postgres_dsn)
        broken: dict[str, Any] = {}
        try:
            for name, sql in queries.items():
                try:
                    await connection.prepare(sql)
                except asyncpg.PostgresError as error:
                    broken[name] = str(error)
        finally:
            await connection.close()
        return broken

    queries = dict(load_queries())
    assert len(queries) > 5
    assert await bridge.call(prepare_all, queries) == {}
