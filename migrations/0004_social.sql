-- Pokes, and what two people say to each other once both have poked.

CREATE INDEX customer_interests_idx ON customer USING gin (interests) WHERE ended_at IS NULL;

-- One that is open is pending and not past expires_at.
CREATE TABLE poke (
    id               uuid PRIMARY KEY,
    cafe_id          uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    from_user_id     uuid NOT NULL REFERENCES customer ON DELETE CASCADE,
    to_user_id       uuid NOT NULL REFERENCES customer ON DELETE CASCADE,
    shared_interest  text NOT NULL,
    status           text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'matched', 'declined', 'expired')),
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    CHECK (from_user_id <> to_user_id)
);

CREATE UNIQUE INDEX poke_pending_key ON poke (from_user_id, to_user_id) WHERE status = 'pending';
CREATE INDEX poke_from_user_id_idx ON poke (from_user_id, created_at);
CREATE INDEX poke_to_user_id_idx ON poke (to_user_id, created_at);
CREATE INDEX poke_expires_at_idx ON poke (expires_at) WHERE status = 'pending';

-- The one channel of a pair, whose ids stand in order. read_a, read_b: how far each has read.
CREATE TABLE dm_channel (
    id               uuid PRIMARY KEY,
    cafe_id          uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    user_a           uuid NOT NULL REFERENCES customer ON DELETE CASCADE,
    user_b           uuid NOT NULL REFERENCES customer ON DELETE CASCADE,
    shared_interest  text NOT NULL,
    created_at       timestamptz NOT NULL,
    last_seq         bigint NOT NULL DEFAULT 0,
    last_message_at  timestamptz,
    read_a           bigint NOT NULL DEFAULT 0,
    read_b           bigint NOT NULL DEFAULT 0,
    CHECK (user_a < user_b)
);

CREATE UNIQUE INDEX dm_channel_pair_key ON dm_channel (user_a, user_b);
CREATE INDEX dm_channel_user_b_idx ON dm_channel (user_b);

CREATE TABLE dm_message (
    channel_id     uuid NOT NULL REFERENCES dm_channel ON DELETE CASCADE,
    seq            bigint NOT NULL,
    id             uuid NOT NULL,
    author_id      uuid NOT NULL,
    content        text NOT NULL,
    client_msg_id  text,
    created_at     timestamptz NOT NULL,
    deleted_at     timestamptz,
    PRIMARY KEY (channel_id, seq)
);

CREATE UNIQUE INDEX dm_message_id_key ON dm_message (id);
CREATE UNIQUE INDEX dm_message_client_msg_id_key ON dm_message (author_id, client_msg_id) WHERE client_msg_id IS NOT NULL;
