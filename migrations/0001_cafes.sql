-- Cafés, the line of messages each one has, and the messages.

CREATE TABLE cafe (
    id              uuid PRIMARY KEY,
    name            text NOT NULL,
    address         text NOT NULL DEFAULT '',
    wifi_ssid       text,
    latitude        double precision,
    longitude       double precision,
    radius_meters   integer NOT NULL DEFAULT 100,
    cidrs           text[] NOT NULL DEFAULT '{}',
    join_policy     text NOT NULL DEFAULT 'any',
    timezone        text NOT NULL DEFAULT 'UTC',
    limits_profile  text,
    menu            jsonb NOT NULL DEFAULT '[]',
    created_at      timestamptz NOT NULL
);

-- The line: who may write (generation), where the sequence stands (last_seq), and which sequence it is (epoch).
-- Every commit moves last_seq on from exactly the value it expects and names the generation it holds, so Postgres itself
-- refuses a gap, a number used twice, and a writer that has been replaced.
CREATE TABLE cafe_line (
    cafe_id     uuid PRIMARY KEY REFERENCES cafe ON DELETE CASCADE,
    epoch       uuid NOT NULL,
    generation  bigint NOT NULL DEFAULT 0,
    last_seq    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- fillfactor: the row is updated with every commit; free space on the page keeps those updates heap-only.

CREATE TABLE message (
    cafe_id        uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    seq            bigint NOT NULL,
    id             uuid NOT NULL,
    user_id        uuid NOT NULL,
    username       text NOT NULL,
    badge          text,
    content        text NOT NULL,
    client_msg_id  text,
    created_at     timestamptz NOT NULL,
    deleted_at     timestamptz,
    PRIMARY KEY (cafe_id, seq)
);

CREATE UNIQUE INDEX message_id_key ON message (id);
CREATE UNIQUE INDEX message_client_msg_id_key ON message (user_id, client_msg_id) WHERE client_msg_id IS NOT NULL;
