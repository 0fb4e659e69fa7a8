-- Jobs and what they need: their runs, hourly numbers, how long messages are kept, and what an erasure looks for.

-- How many days the café's messages are kept; NULL: as the config says.
ALTER TABLE cafe ADD COLUMN retention_days integer CHECK (retention_days BETWEEN 1 AND 3650);

-- One row a run. A run that has not ended holds its job until lease_until, which it moves on for as long as it lives.
-- outcome: ok; failed (a bug, or the deadline: again at the next time); interrupted (storage, or the end of the daemon: again as soon as it
-- can be); lost (the process died: again); first (nothing ran: brewd knows the job since then).
CREATE TABLE job_run (
    id           uuid PRIMARY KEY,
    job          text NOT NULL,
    due_at       timestamptz NOT NULL,
    started_at   timestamptz NOT NULL,
    lease_until  timestamptz NOT NULL,
    ended_at     timestamptz,
    outcome      text CHECK (outcome IN ('ok', 'failed', 'interrupted', 'lost', 'first')),
    detail       jsonb NOT NULL DEFAULT '{}',
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

CREATE UNIQUE INDEX job_run_under_way_key ON job_run (job) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX job_run_due_key ON job_run (job, due_at) WHERE outcome IS NULL OR outcome NOT IN ('interrupted', 'lost');
CREATE INDEX job_run_started_idx ON job_run (job, started_at);

-- Erased customers whose tokens would still be good, as a hash of the id: nothing else is left of them.
CREATE TABLE erased (
    id_hash     bytea PRIMARY KEY,
    expires_at  timestamptz NOT NULL
);

CREATE INDEX erased_expires_at_idx ON erased (expires_at);

-- What happened in a café in an hour. An hour in which nothing did has no row.
CREATE TABLE cafe_analytics (
    cafe_id        uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    hour           timestamptz NOT NULL,
    messages       integer NOT NULL DEFAULT 0,
    authors        integer NOT NULL DEFAULT 0,
    joins          integer NOT NULL DEFAULT 0,
    pokes          integer NOT NULL DEFAULT 0,
    matches        integer NOT NULL DEFAULT 0,
    agent_queries  integer NOT NULL DEFAULT 0,
    PRIMARY KEY (cafe_id, hour)
);

-- How far that was counted: every hour before `hour`, and every message up to `seq`.
CREATE TABLE cafe_analytics_mark (
    cafe_id  uuid PRIMARY KEY REFERENCES cafe ON DELETE CASCADE,
    hour     timestamptz NOT NULL,
    seq      bigint NOT NULL
);

-- Everything somebody wrote has to be found, with a clientMsgId or without. NULLs are distinct, so the rule stays what it was.
DROP INDEX message_client_msg_id_key;
CREATE UNIQUE INDEX message_client_msg_id_key ON message (user_id, client_msg_id);

CREATE INDEX limit_use_user_id_idx ON limit_use (user_id);
CREATE INDEX poke_cafe_id_idx ON poke (cafe_id, created_at);
CREATE INDEX dm_channel_cafe_id_idx ON dm_channel (cafe_id, created_at);
CREATE INDEX customer_ended_at_idx ON customer (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX receipt_used_at_idx ON receipt (used_at) WHERE used_at IS NOT NULL;
CREATE INDEX receipt_unused_idx ON receipt (expires_at) WHERE used_at IS NULL;
