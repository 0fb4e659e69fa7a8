-- Pokes, and what two people say to each other once both have poked.

-- interests_at: since when the interests are as they are; what a poke says of an interest depends on it.
ALTER TABLE customer ADD COLUMN interests_at timestamptz;

CREATE INDEX customer_interests_idx ON customer USING gin (interests) WHERE ended_at IS NULL;
CREATE INDEX customer_discover_idx ON customer (cafe_id) WHERE ended_at IS NULL AND poke_enabled;

-- One that is open is pending and not past expires_at.
-- to_user_id has no foreign key, since a poke to somebody who does not exist has to look like any other to its sender; it goes with its
-- recipient all the same (see the trigger). One whose sender is gone stays until it is over, without a name, and without an interest that
-- only they may have had: if it vanished with them, it would say who it was from.
-- deliver_at NULL: it is never shown to whom it is addressed, who was not to be reached. crowd: its interest was common enough to be named.
CREATE TABLE poke (
    id               uuid PRIMARY KEY,
    cafe_id          uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    from_user_id     uuid REFERENCES customer ON DELETE SET NULL,
    to_user_id       uuid NOT NULL,
    shared_interest  text NOT NULL,
    crowd            boolean NOT NULL DEFAULT false,
    status           text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'matched', 'declined', 'expired')),
    created_at       timestamptz NOT NULL,
    deliver_at       timestamptz,
    expires_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    CHECK (from_user_id <> to_user_id)
);

CREATE UNIQUE INDEX poke_pending_key ON poke (from_user_id, to_user_id) WHERE status = 'pending';
CREATE INDEX poke_pair_idx ON poke (from_user_id, to_user_id);
CREATE INDEX poke_to_user_id_idx ON poke (to_user_id, deliver_at);
CREATE INDEX poke_pending_expires_at_idx ON poke (expires_at) WHERE status = 'pending';
CREATE INDEX poke_expires_at_idx ON poke (expires_at);

CREATE FUNCTION poke_to_the_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM poke USING gone WHERE poke.to_user_id = gone.id;
    UPDATE poke SET shared_interest = '' WHERE from_user_id IS NULL AND NOT crowd AND shared_interest <> '';
    RETURN NULL;
END
$$;

CREATE TRIGGER customer_gone AFTER DELETE ON customer REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION poke_to_the_gone();

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
CREATE UNIQUE INDEX dm_message_client_msg_id_key ON dm_message (channel_id, author_id, client_msg_id) WHERE client_msg_id IS NOT NULL;
