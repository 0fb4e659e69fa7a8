-- What happens in cafés, counted by the hour, and messages that are kept no longer.

-- name: analytics_count
-- The next $2 cafés after $1: every hour before $3 that is not counted yet. A message's hour follows from its number, since a café's are stored in
-- the order in which they were made; a join's from its receipt, which outlives the customer.
WITH due AS (
    SELECT c.id, coalesce(k.hour, 'epoch'::timestamptz) AS hour, coalesce(k.seq, 0) AS seq
    FROM cafe c LEFT JOIN cafe_analytics_mark k ON k.cafe_id = c.id WHERE c.id > $1 ORDER BY c.id LIMIT $2
), open AS (
    SELECT * FROM due WHERE hour < $3
), said AS (
    SELECT o.id AS cafe_id, date_trunc('hour', m.created_at, 'UTC') AS hour, count(*) AS messages, count(DISTINCT m.user_id) AS authors, max(m.seq) AS seq
    FROM open o JOIN message m ON m.cafe_id = o.id AND m.seq > o.seq AND m.created_at < $3
    GROUP BY 1, 2
), joined AS (
    SELECT o.id AS cafe_id, date_trunc('hour', r.used_at, 'UTC') AS hour, count(*) AS joins
    FROM open o JOIN receipt r ON r.cafe_id = o.id AND r.used_at >= o.hour AND r.used_at < $3
    GROUP BY 1, 2
), poked AS (
    SELECT o.id AS cafe_id, date_trunc('hour', p.created_at, 'UTC') AS hour, count(*) AS pokes
    FROM open o JOIN poke p ON p.cafe_id = o.id AND p.created_at >= o.hour AND p.created_at < $3
    GROUP BY 1, 2
), matched AS (
    SELECT o.id AS cafe_id, date_trunc('hour', d.created_at, 'UTC') AS hour, count(*) AS matches
    FROM open o JOIN dm_channel d ON d.cafe_id = o.id AND d.created_at >= o.hour AND d.created_at < $3
    GROUP BY 1, 2
), asked AS (
    SELECT o.id AS cafe_id, date_trunc('hour', q.at, 'UTC') AS hour, count(*) AS agent_queries
    FROM open o JOIN agent_queries q ON q.cafe_id = o.id AND q.at >= o.hour AND q.at < $3 AND q.outcome NOT LIKE 'proactive:%'
    GROUP BY 1, 2
), counted AS (
    INSERT INTO cafe_analytics (cafe_id, hour, messages, authors, joins, pokes, matches, agent_queries)
    SELECT cafe_id, hour, coalesce(messages, 0), coalesce(authors, 0), coalesce(joins, 0), coalesce(pokes, 0), coalesce(matches, 0), coalesce(agent_queries, 0)
    FROM said FULL JOIN joined USING (cafe_id, hour) FULL JOIN poked USING (cafe_id, hour) FULL JOIN matched USING (cafe_id, hour)
        FULL JOIN asked USING (cafe_id, hour)
    ON CONFLICT (cafe_id, hour) DO NOTHING
    RETURNING 1
), marked AS (
    INSERT INTO cafe_analytics_mark (cafe_id, hour, seq)
    SELECT o.id, $3, greatest(o.seq, coalesce((SELECT max(s.seq) FROM said s WHERE s.cafe_id = o.id), 0)) FROM open o
    ON CONFLICT (cafe_id) DO UPDATE SET hour = excluded.hour, seq = excluded.seq
)
SELECT (SELECT count(*) FROM due) AS cafes, (SELECT max(id::text) FROM due) AS last, (SELECT count(*) FROM counted) AS hours;

-- name: analytics_rows
SELECT hour, messages, authors, joins, pokes, matches, agent_queries FROM cafe_analytics
WHERE cafe_id = $1 AND hour >= $2 AND hour < $3 ORDER BY hour;

-- name: purge_due
-- Cafés whose oldest message is kept no longer, and until when theirs are; $2: the days of those that have no days of their own.
SELECT c.id::text, $1::timestamptz - make_interval(days => coalesce(c.retention_days, $2::integer)) AS before
FROM cafe c CROSS JOIN LATERAL (SELECT m.created_at FROM message m WHERE m.cafe_id = c.id ORDER BY m.seq LIMIT 1) f
WHERE f.created_at < $1::timestamptz - make_interval(days => coalesce(c.retention_days, $2::integer));

-- name: purge_messages
-- The oldest messages of a café, up to the first that is kept, at most $3: what remains has no gap.
DELETE FROM message WHERE cafe_id = $1 AND seq = ANY(ARRAY(
    SELECT g.seq FROM (
        SELECT f.seq, bool_and(f.created_at < $2) OVER (ORDER BY f.seq) AS old
        FROM (SELECT m.seq, m.created_at FROM message m WHERE m.cafe_id = $1 ORDER BY m.seq LIMIT $3) f
    ) g WHERE g.old));

-- name: purge_cafe_analytics
-- Hours before $1, at most $2.
DELETE FROM cafe_analytics WHERE (cafe_id, hour) IN (SELECT f.cafe_id, f.hour FROM cafe_analytics f WHERE f.hour < $1 ORDER BY f.hour LIMIT $2);

-- name: purge_agent_queries
-- What was asked, and what it cost, before $1; at most $2.
DELETE FROM agent_queries WHERE id = ANY(ARRAY(SELECT f.id FROM agent_queries f WHERE f.at < $1 ORDER BY f.at LIMIT $2));
