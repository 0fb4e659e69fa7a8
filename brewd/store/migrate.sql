-- name: migration_table
CREATE TABLE IF NOT EXISTS schema_migration (
    number      integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL
)

-- name: migration_table_exists
SELECT to_regclass('schema_migration') IS NOT NULL

-- name: migration_lock
SELECT pg_advisory_xact_lock($1::bigint)

-- name: migration_list
SELECT number, name, checksum FROM schema_migration ORDER BY number

-- name: migration_add
INSERT INTO schema_migration (number, name, checksum, applied_at) VALUES ($1, $2, $3, $4)
