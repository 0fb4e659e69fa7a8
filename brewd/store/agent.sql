-- Claude in the café: what owners chose, and what was asked.

-- name: agent_config_get
SELECT enabled, persona, custom_text, proactivity, monthly_budget_cents, daily_budget_cents FROM agent_config WHERE cafe_id = $1

-- name: agent_config_lock
SELECT id FROM cafe WHERE id = $1 FOR UPDATE

-- name: agent_config_set
INSERT INTO agent_config (cafe_id, enabled, persona, custom_text, proactivity, monthly_budget_cents, daily_budget_cents)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (cafe_id) DO UPDATE SET
    enabled = EXCLUDED.enabled, persona = EXCLUDED.persona, custom_text = EXCLUDED.custom_text, proactivity = EXCLUDED.proactivity,
    monthly_budget_cents = EXCLUDED.monthly_budget_cents, daily_budget_cents = EXCLUDED.daily_budget_cents

-- name: agent_popular_items
-- By how many were bought since $2. Names that differ in case and spacing are one; the newest spelling is shown.
-- Only what is on at least $3 receipts: what is on fewer may be of one guest, and say so.
SELECT (array_agg(btrim(i.item ->> 'name') ORDER BY r.created_at DESC))[1] AS name
FROM receipt r CROSS JOIN LATERAL jsonb_array_elements(r.items) AS i (item)
WHERE r.cafe_id = $1 AND r.created_at > $2 AND btrim(i.item ->> 'name') <> ''
GROUP BY lower(regexp_replace(btrim(i.item ->> 'name'), '\s+', ' ', 'g')) HAVING count(DISTINCT r.id) >= $3
ORDER BY sum(CASE WHEN jsonb_typeof(i.item -> 'quantity') = 'number' THEN (i.item ->> 'quantity')::numeric ELSE 1 END) DESC, 1
LIMIT $4

-- name: agent_top_interests
-- Only what at least $3 of those who are there for the day share.
SELECT i.interest FROM customer c CROSS JOIN LATERAL unnest(c.interests) AS i (interest)
WHERE c.cafe_id = $1 AND c.ended_at IS NULL AND c.expires_at > $2
GROUP BY i.interest HAVING count(DISTINCT c.id) >= $3
ORDER BY count(DISTINCT c.id) DESC, i.interest
LIMIT $4

-- name: agent_query_put
-- A question as it begins, and again as it ends; an end is not overwritten by a beginning that was given up and comes late.
-- Who asked, and what, is kept for as long as the customer is; of staff only what they asked.
-- Of one whose time was ended nothing is written any more: whoever erases them may have looked here already.
-- It pauses for a moment at the first row and every fourth after it: a core that is shared is left only by who waits for something, and a
-- room's commit would wait for the whole of this.
-- Customers are looked up one by one, by id and nothing else: else everybody who is there is read for a few rows, wherever Postgres guesses
-- that they are few (OFFSET 0 keeps it from that).
-- The commit does not wait for the disk, so that it holds up none of the rooms': should Postgres itself crash, calls of its last moment,
-- which was theirs too, are forgotten. Nor does it wait for a café that is locked for longer than whoever ordered it waits for it: it would
-- write then who was a customer before.
WITH commit AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '1500ms', true))
INSERT INTO agent_queries (id, cafe_id, user_id, session_id, query, persona, model, outcome, cached, latency_ms,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_microcents, at, expires_at)
SELECT q.id, q.cafe_id, c.id, CASE WHEN c.id IS NOT NULL THEN q.session_id END, CASE WHEN c.id IS NOT NULL OR q.staff THEN q.query END,
    q.persona, q.model, q.outcome, q.cached, q.latency_ms, q.input_tokens, q.output_tokens, q.cache_read_tokens, q.cache_write_tokens,
    q.cost_microcents, asked.at, coalesce(c.expires_at, asked.at + interval '1 day')
FROM ROWS FROM (json_to_recordset($1::json) AS (id uuid, cafe_id uuid, user_id uuid, session_id uuid, staff boolean, query text, persona text,
    model text, outcome text, cached boolean, latency_ms integer, input_tokens integer, output_tokens integer, cache_read_tokens integer,
    cache_write_tokens integer, cost_microcents bigint, at_ms bigint)) WITH ORDINALITY AS q
CROSS JOIN LATERAL (SELECT to_timestamp(q.at_ms / 1000.0) AS at, CASE WHEN q.ordinality % 4 = 1 THEN pg_sleep(0.0005) END AS pause) AS asked
CROSS JOIN commit
CROSS JOIN LATERAL (SELECT FROM cafe WHERE id = q.cafe_id OFFSET 0) AS known
LEFT JOIN LATERAL (SELECT id, cafe_id, expires_at, ended_at FROM customer WHERE id = q.user_id OFFSET 0) AS c
    ON c.cafe_id = q.cafe_id AND c.ended_at IS NULL
ON CONFLICT (id) DO UPDATE SET
    outcome = EXCLUDED.outcome, latency_ms = EXCLUDED.latency_ms, input_tokens = EXCLUDED.input_tokens, output_tokens = EXCLUDED.output_tokens,
    cache_read_tokens = EXCLUDED.cache_read_tokens, cache_write_tokens = EXCLUDED.cache_write_tokens, cost_microcents = EXCLUDED.cost_microcents
WHERE agent_queries.outcome LIKE '%started'

-- name: agent_query_totals
-- Since $3 (today), and since $2 (this month). What the agent says of its own accord costs, but is no question.
SELECT
    coalesce(sum(cost_microcents), 0)::bigint AS cost_month,
    coalesce(sum(cost_microcents) FILTER (WHERE at >= $3), 0)::bigint AS cost_today,
    count(*) FILTER (WHERE outcome NOT LIKE 'proactive:%') AS queries_month,
    count(*) FILTER (WHERE outcome NOT LIKE 'proactive:%' AND at >= $3) AS queries_today,
    count(*) FILTER (WHERE cached) AS cached_month,
    count(*) FILTER (WHERE cached AND at >= $3) AS cached_today
FROM agent_queries WHERE cafe_id = $1 AND at >= $2

-- name: agent_query_expire
-- Who asked and what, of everybody whose time is over; at most $2 rows.
WITH over AS (
    SELECT id FROM agent_queries WHERE expires_at <= $1 AND (user_id IS NOT NULL OR query IS NOT NULL) LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE agent_queries q SET user_id = NULL, session_id = NULL, query = NULL FROM over WHERE q.id = over.id RETURNING q.id::text

-- name: agent_said
-- What the agent ($1) said to a café of its own accord, newest first.
SELECT content, created_at FROM message WHERE user_id = $1 AND cafe_id = $2 ORDER BY seq DESC LIMIT $3

-- name: agent_peak_hours
-- Hours of the day in which most is said, by the café's clock ($3), since $2.
SELECT extract(hour FROM hour AT TIME ZONE $3)::integer AS local_hour FROM cafe_analytics
WHERE cafe_id = $1 AND hour > $2
GROUP BY 1 HAVING sum(messages) > 0 ORDER BY sum(messages) DESC, 1 LIMIT $4
