-- Claude in the café: what each owner chose, and every question that was asked.

-- A café without a row is as these defaults say. A budget that is NULL has no end; 0 allows nothing.
CREATE TABLE agent_config (
    cafe_id               uuid PRIMARY KEY REFERENCES cafe ON DELETE CASCADE,
    enabled               boolean NOT NULL DEFAULT true,
    persona               text NOT NULL DEFAULT 'bartender' CHECK (persona IN ('bartender', 'quirky', 'historian', 'sarcastic', 'professional', 'custom')),
    custom_text           text NOT NULL DEFAULT '',
    proactivity           text NOT NULL DEFAULT 'occasional' CHECK (proactivity IN ('silent', 'occasional', 'active', 'hype')),
    monthly_budget_cents  bigint DEFAULT 2000 CHECK (monthly_budget_cents >= 0),
    daily_budget_cents    bigint DEFAULT 200 CHECK (daily_budget_cents >= 0)
);

-- Written before a call starts, with what is reserved for it (outcome 'started'), and again with what came of it: a call whose
-- end was never written down counts as what was reserved. 1 cent = 1,000,000 microcents.
-- user_id has no foreign key: staff ask, too. After expires_at user_id, session_id and query are NULL; the numbers stay.
CREATE TABLE agent_queries (
    id                  uuid PRIMARY KEY,
    cafe_id             uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    user_id             uuid,
    session_id          uuid,
    query               text,
    persona             text NOT NULL,
    model               text NOT NULL,
    outcome             text NOT NULL,
    cached              boolean NOT NULL,
    latency_ms          integer NOT NULL DEFAULT 0,
    input_tokens        integer NOT NULL DEFAULT 0,
    output_tokens       integer NOT NULL DEFAULT 0,
    cache_read_tokens   integer NOT NULL DEFAULT 0,
    cache_write_tokens  integer NOT NULL DEFAULT 0,
    cost_microcents     bigint NOT NULL DEFAULT 0,
    at                  timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL
);

CREATE INDEX agent_queries_cafe_idx ON agent_queries (cafe_id, at);
CREATE INDEX agent_queries_user_idx ON agent_queries (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX agent_queries_expires_at_idx ON agent_queries (expires_at) WHERE user_id IS NOT NULL OR query IS NOT NULL;
