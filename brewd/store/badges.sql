-- Tips, days, and the badges that come of them; who has one now.

-- name: tip_patron
-- Whoever is tipped, if their time is not over, with their patron locked: two tips for one patron come one after the other.
-- A join that renews the patron waits as well, and then sees what was awarded.
SELECT c.id::text, p.id::text AS patron_id FROM customer c JOIN patron p ON p.id = c.patron_id
WHERE c.id = $1 AND c.cafe_id = $2 AND c.ended_at IS NULL AND c.expires_at > $3
FOR NO KEY UPDATE OF p;

-- name: tip_patronless
SELECT id::text, patron_id::text, expires_at FROM customer WHERE id = $1 AND cafe_id = $2 AND ended_at IS NULL AND expires_at > $3 FOR UPDATE;

-- name: customer_patron
UPDATE customer SET patron_id = $2 WHERE id = $1;

-- name: tip_add
INSERT INTO tip (id, cafe_id, patron_id, user_id, staff_id, amount_cents, currency, at)
VALUES ($1, $2, $3, $4, (SELECT id FROM staff WHERE id = $5::uuid), $6, $7, $8);

-- name: tip_times
-- Of one user's patron, in ms, those that may still matter.
SELECT (extract(epoch FROM t.at) * 1000)::bigint AS at_ms FROM customer c JOIN tip t ON t.patron_id = c.patron_id
WHERE c.id = $1 AND t.at > $2 ORDER BY t.at;

-- name: badge_of_user
SELECT b.type, b.awarded_at, b.expires_at FROM customer c JOIN badge b ON b.patron_id = c.patron_id
WHERE c.id = $1 AND b.expires_at > $2 ORDER BY b.awarded_at, b.type;

-- name: badge_award
-- Award what is not there, or is over; prolong what ends earlier. Answers only what is different now. $5: now.
-- Patrons are locked in the order of their ids, before any badge of theirs.
WITH due AS (
    SELECT a.id, a.patron_id, a.type, a.expires_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[]) AS a (id, patron_id, type, expires_at)
    JOIN patron p ON p.id = a.patron_id
    LEFT JOIN badge b ON b.patron_id = a.patron_id AND b.type = a.type
    WHERE b.expires_at IS NULL OR b.expires_at < a.expires_at
    ORDER BY p.id, a.type FOR NO KEY UPDATE OF p
)
INSERT INTO badge (patron_id, type, id, awarded_at, expires_at)
SELECT patron_id, type, id, $5::timestamptz, expires_at FROM due
ON CONFLICT (patron_id, type) DO UPDATE SET
    id = CASE WHEN badge.expires_at > excluded.awarded_at THEN badge.id ELSE excluded.id END,
    awarded_at = CASE WHEN badge.expires_at > excluded.awarded_at THEN badge.awarded_at ELSE excluded.awarded_at END,
    expires_at = excluded.expires_at
WHERE badge.expires_at < excluded.expires_at
RETURNING patron_id::text, type, awarded_at, expires_at, id = ANY ($1::uuid[]) AS fresh;

-- name: badge_hold
UPDATE customer c SET badge_status = $4, badge_until = b.expires_at
FROM unnest($1::uuid[], $2::timestamptz[]) AS b (patron_id, expires_at)
WHERE c.patron_id = b.patron_id AND c.ended_at IS NULL AND c.expires_at > $3;

-- name: badge_bearers
-- The users that patrons have now.
SELECT id::text, cafe_id::text, patron_id::text, username, badge_status, badge_until, expires_at FROM customer
WHERE patron_id = ANY ($1::uuid[]) AND ended_at IS NULL AND expires_at > $2;

-- name: badge_held
-- Every user with a badge that counts for their limits, or did until a moment ago: a token may still say so.
SELECT id::text, cafe_id::text, patron_id::text, username, badge_status, badge_until, expires_at FROM customer
WHERE badge_until IS NOT NULL AND ended_at IS NULL AND expires_at > $1;

-- name: badge_over
-- The row itself says that its badge is over, so one that is prolonged at this moment is looked at again, and stays.
UPDATE customer SET badge_status = 'none' WHERE id IN (
    SELECT id FROM customer WHERE badge_until <= $1 AND badge_status <> 'none' ORDER BY badge_until LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING id::text, cafe_id::text, patron_id::text, username, badge_status, badge_until, expires_at;

-- name: badge_purge
DELETE FROM badge WHERE (patron_id, type) IN (
    SELECT patron_id, type FROM badge WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING patron_id;

-- name: tip_purge
DELETE FROM tip WHERE id IN (SELECT id FROM tip WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id;

-- name: visit_purge
DELETE FROM visit WHERE (patron_id, day) IN (
    SELECT patron_id, day FROM visit WHERE day <= $1 ORDER BY day LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING patron_id;

-- name: visit_places
-- Whose visit it is when a user is seen, and what time it is there.
SELECT c.id::text, c.patron_id::text, f.timezone FROM customer c JOIN cafe f ON f.id = c.cafe_id
WHERE c.id = ANY ($1::uuid[]) AND c.patron_id IS NOT NULL;

-- name: visit_matches
-- When channels were opened with users of these patrons, in ms.
SELECT c.patron_id::text, (extract(epoch FROM m.created_at) * 1000)::bigint AS at_ms
FROM customer c
JOIN LATERAL (
    SELECT created_at FROM dm_channel WHERE user_a = c.id UNION ALL SELECT created_at FROM dm_channel WHERE user_b = c.id
) AS m ON true
WHERE c.patron_id = ANY ($1::uuid[]);

-- name: visit_add
INSERT INTO visit (patron_id, day, early, late, matches)
SELECT v.patron_id, v.day, v.early, v.late, v.matches
FROM unnest($1::uuid[], $2::date[], $3::boolean[], $4::boolean[], $5::integer[]) AS v (patron_id, day, early, late, matches)
JOIN patron p ON p.id = v.patron_id
ORDER BY v.patron_id, v.day
ON CONFLICT (patron_id, day) DO UPDATE SET
    early = visit.early OR excluded.early, late = visit.late OR excluded.late, matches = greatest(visit.matches, excluded.matches)
WHERE (visit.early, visit.late, visit.matches) IS DISTINCT FROM
    (visit.early OR excluded.early, visit.late OR excluded.late, greatest(visit.matches, excluded.matches));

-- name: visit_joined
-- Users who came since, a page of them by id: when each did.
SELECT id::text, (extract(epoch FROM created_at) * 1000)::bigint AS at_ms FROM customer
WHERE id > $1 AND created_at > $2 AND patron_id IS NOT NULL ORDER BY id LIMIT $3;

-- name: badge_patrons
-- Patrons who may have earned something, a page of them by id.
SELECT id::text FROM patron p
WHERE id > $1 AND (EXISTS (SELECT 1 FROM visit v WHERE v.patron_id = p.id) OR EXISTS (SELECT 1 FROM tip t WHERE t.patron_id = p.id))
ORDER BY id LIMIT $2;

-- name: badge_facts
-- Of each patron: tips, days, and until when they have which badge, in ms.
SELECT p.id::text, f.timezone, v.days, v.early, v.late, v.matches, h.types, h.ends_ms,
    ARRAY(SELECT (extract(epoch FROM t.at) * 1000)::bigint FROM tip t WHERE t.patron_id = p.id AND t.at > $2 ORDER BY t.at) AS tips_ms
FROM patron p
JOIN cafe f ON f.id = p.cafe_id
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(day ORDER BY day), '{}') AS days, coalesce(array_agg(early ORDER BY day), '{}') AS early,
        coalesce(array_agg(late ORDER BY day), '{}') AS late, coalesce(array_agg(matches ORDER BY day), '{}') AS matches
    FROM visit WHERE patron_id = p.id
) AS v
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(type), '{}') AS types, coalesce(array_agg((extract(epoch FROM expires_at) * 1000)::bigint), '{}') AS ends_ms
    FROM badge WHERE patron_id = p.id
) AS h
WHERE p.id = ANY ($1::uuid[]);
