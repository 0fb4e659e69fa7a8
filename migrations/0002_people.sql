-- Staff, receipts and the join tokens on them, customers, patrons, and the sessions tokens belong to.

CREATE TABLE staff (
    id             uuid PRIMARY KEY,
    cafe_id        uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    name           text NOT NULL,
    role           text NOT NULL CHECK (role IN ('barista', 'moderator')),
    password_hash  text NOT NULL,
    created_at     timestamptz NOT NULL,
    disabled_at    timestamptz
);

CREATE UNIQUE INDEX staff_name_key ON staff (cafe_id, lower(name));

-- The same person over several visits, as far as they choose to be: found by a secret only they hold.
-- Patrons belong to one café, so that no key links someone's visits to two of them.
CREATE TABLE patron (
    id          uuid PRIMARY KEY,
    cafe_id     uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    key_hash    bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);

CREATE UNIQUE INDEX patron_key_hash_key ON patron (cafe_id, key_hash);
CREATE INDEX patron_expires_at_idx ON patron (expires_at);

-- "user" in the contract; the word is reserved in SQL.
-- Live means ended_at IS NULL and expires_at in the future. A row that expired without being marked still holds its name,
-- so whoever takes the name marks it first.
CREATE TABLE customer (
    id            uuid PRIMARY KEY,
    cafe_id       uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    patron_id     uuid REFERENCES patron ON DELETE SET NULL,
    username      text NOT NULL,
    badge_status  text NOT NULL DEFAULT 'none',
    interests     text[] NOT NULL DEFAULT '{}',
    poke_enabled  boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz
);

CREATE UNIQUE INDEX customer_username_key ON customer (cafe_id, lower(username)) WHERE ended_at IS NULL;
CREATE INDEX customer_expires_at_idx ON customer (expires_at);
CREATE INDEX customer_patron_id_idx ON customer (patron_id) WHERE patron_id IS NOT NULL;

-- A printed receipt: the name it gives, and the token that proves it, as a hash.
CREATE TABLE receipt (
    id          uuid PRIMARY KEY,
    cafe_id     uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    receipt_id  text NOT NULL,
    username    text NOT NULL,
    token_hash  bytea NOT NULL,
    items       jsonb NOT NULL DEFAULT '[]',
    tries       integer NOT NULL DEFAULT 0,
    staff_id    uuid REFERENCES staff ON DELETE SET NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    user_id     uuid REFERENCES customer ON DELETE SET NULL
);

CREATE UNIQUE INDEX receipt_receipt_id_key ON receipt (cafe_id, receipt_id);
CREATE UNIQUE INDEX receipt_username_key ON receipt (cafe_id, lower(username));
CREATE INDEX receipt_created_at_idx ON receipt (created_at);
CREATE INDEX receipt_user_id_idx ON receipt (user_id) WHERE user_id IS NOT NULL;

-- A login: of a customer (with a refresh token, whose current jti is refresh_jti) or of staff (without).
CREATE TABLE session (
    id           uuid PRIMARY KEY,
    user_id      uuid REFERENCES customer ON DELETE CASCADE,
    staff_id     uuid REFERENCES staff ON DELETE CASCADE,
    refresh_jti  uuid,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    CHECK ((user_id IS NULL) <> (staff_id IS NULL))
);

CREATE INDEX session_user_id_idx ON session (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX session_staff_id_idx ON session (staff_id) WHERE staff_id IS NOT NULL;
CREATE INDEX session_expires_at_idx ON session (expires_at);
CREATE INDEX session_revoked_at_idx ON session (revoked_at) WHERE revoked_at IS NOT NULL;
