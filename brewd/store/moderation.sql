-- What was decided about people and what they have used: written by the ledger and by moderators, read when a café opens.

-- name: moderation_add
-- The patron is the user's, or, when the user is gone, the one an earlier decision about them named.
INSERT INTO moderation_actions (id, cafe_id, action, user_id, username, patron_id, staff_id, staff_name, rule, reason, until_at, message_id, created_at)
SELECT a.id, a.cafe_id, a.action, a.user_id, a.username,
    coalesce(c.patron_id, (SELECT m.patron_id FROM moderation_actions m WHERE m.user_id = a.user_id ORDER BY m.created_at DESC, m.n DESC LIMIT 1)),
    s.id, a.staff_name, a.rule, a.reason, a.until_at, a.message_id, a.created_at
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::uuid[], $12::timestamptz[])
     WITH ORDINALITY AS a (id, cafe_id, action, user_id, username, staff_id, staff_name, rule, reason, until_at, message_id, created_at, n)
JOIN cafe ON cafe.id = a.cafe_id
LEFT JOIN customer c ON c.id = a.user_id
LEFT JOIN staff s ON s.id = a.staff_id
ORDER BY a.n
ON CONFLICT (id) DO NOTHING;

-- name: limit_use_add
-- The commit does not wait for the disk, so that it holds up none of the rooms': should Postgres itself crash, what was charged in its last moment is forgotten.
WITH commit AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO limit_use (id, cafe_id, user_id, action, session_id, reset, at)
SELECT u.id, u.cafe_id, u.user_id, u.action, u.session_id, u.reset, u.at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::boolean[], $7::timestamptz[])
     AS u (id, cafe_id, user_id, action, session_id, reset, at)
JOIN cafe ON cafe.id = u.cafe_id
CROSS JOIN commit
ON CONFLICT (id) DO NOTHING;

-- name: standing_acts
-- alike: the users a mute, or the end of one, is about besides the one it names: whoever else that person is at the moment ($4).
SELECT m.action, m.user_id::text, m.created_at, m.until_at, m.reason, m.rule,
    CASE WHEN m.action = 'block' OR m.patron_id IS NULL THEN '{}'
        ELSE ARRAY(SELECT c.id::text FROM customer c WHERE c.patron_id = m.patron_id AND c.id <> m.user_id AND c.expires_at > $4) END AS alike
FROM moderation_actions m
WHERE m.cafe_id = $1 AND ((m.action IN ('mute', 'unmute') AND m.created_at > $2) OR (m.action = 'block' AND m.created_at > $3))
ORDER BY m.created_at, m.n;

-- name: standing_used
SELECT action, user_id::text, session_id::text, reset, at FROM limit_use WHERE cafe_id = $1 AND at > $2 ORDER BY at, id;

-- name: message_sent
-- Of the newest $2 messages those since $3, deleted or not, a row for each author: when each token was taken, in ms, and by whom with a badge.
SELECT user_id::text, max(username) AS username, array_agg((extract(epoch FROM created_at) * 1000)::bigint ORDER BY seq) AS at_ms,
    array_agg(badge IS NOT NULL ORDER BY seq) AS badged
FROM message
WHERE cafe_id = $1 AND seq > (SELECT l.last_seq FROM cafe_line l WHERE l.cafe_id = $1) - $2::bigint AND created_at > $3
GROUP BY user_id;

-- name: moderated_user
SELECT username FROM customer WHERE cafe_id = $1 AND id = $2
UNION ALL
(SELECT username FROM moderation_actions WHERE cafe_id = $1 AND user_id = $2 ORDER BY created_at DESC LIMIT 1);

-- name: moderated_user_named
-- A live one before those who are gone, and those before one who is only known from the log.
(SELECT id::text FROM customer WHERE cafe_id = $1 AND lower(username) = lower($2) ORDER BY ended_at IS NULL DESC, created_at DESC LIMIT 1)
UNION ALL
(SELECT user_id::text FROM moderation_actions WHERE cafe_id = $1 AND lower(username) = lower($2) ORDER BY created_at DESC LIMIT 1)
LIMIT 1;

-- name: moderation_log
SELECT id::text, action, user_id::text, username, staff_id::text, staff_name, rule, reason, until_at, message_id::text, created_at
FROM moderation_actions
WHERE cafe_id = $1 AND ($2::uuid IS NULL OR user_id = $2)
    AND ($3::uuid IS NULL OR (created_at, n) < (SELECT m.created_at, m.n FROM moderation_actions m WHERE m.id = $3 AND m.cafe_id = $1))
ORDER BY created_at DESC, n DESC LIMIT $4;

-- name: patron_lock
SELECT id FROM patron WHERE id = (SELECT patron_id FROM customer WHERE id = $1) FOR UPDATE;

-- name: patron_lock_many
SELECT id FROM patron WHERE id IN (SELECT patron_id FROM customer WHERE id = ANY($1::uuid[])) ORDER BY id FOR SHARE;

-- name: mute_follows
-- The other users of those who were just muted, with the last word about it.
SELECT c.cafe_id::text, c.id::text AS user_id, last.until_at, last.reason
FROM (SELECT DISTINCT patron_id FROM customer WHERE id = ANY($1::uuid[])) AS p
JOIN customer c ON c.patron_id = p.patron_id AND c.expires_at > $2 AND c.id <> ALL($1::uuid[])
CROSS JOIN LATERAL (
    SELECT m.action, m.until_at, m.reason FROM moderation_actions m
    WHERE m.patron_id = p.patron_id AND m.action IN ('mute', 'unmute') ORDER BY m.created_at DESC, m.n DESC LIMIT 1
) AS last
WHERE last.action = 'mute' AND last.until_at > $2;

-- name: mute_of_patron
SELECT action, until_at, reason FROM moderation_actions WHERE patron_id = $1 AND action IN ('mute', 'unmute') ORDER BY created_at DESC, n DESC LIMIT 1;

-- name: moderation_state
-- The last word about a user's mutes, and about their bans; also when it was spoken about them as somebody else.
WITH about AS (
    SELECT m.action, m.until_at, m.reason, m.created_at, m.n FROM moderation_actions m
    WHERE m.action IN ('mute', 'unmute', 'ban', 'unban') AND (m.user_id = $1 OR m.patron_id = coalesce(
        (SELECT c.patron_id FROM customer c WHERE c.id = $1),
        (SELECT b.patron_id FROM moderation_actions b WHERE b.user_id = $1 ORDER BY b.created_at DESC, b.n DESC LIMIT 1)))
)
(SELECT action, until_at, reason FROM about WHERE action IN ('mute', 'unmute') ORDER BY created_at DESC, n DESC LIMIT 1)
UNION ALL
(SELECT action, until_at, reason FROM about WHERE action IN ('ban', 'unban') ORDER BY created_at DESC, n DESC LIMIT 1);

-- name: customer_alike
SELECT id::text FROM customer WHERE expires_at > $2 AND (id = $1 OR patron_id = (SELECT patron_id FROM customer WHERE id = $1));

-- name: ban_live
-- Users of those who are banned, as far as their tokens could still be good.
WITH last AS (
    SELECT DISTINCT ON (coalesce(patron_id, user_id)) user_id, patron_id, action, until_at FROM moderation_actions
    WHERE action IN ('ban', 'unban') AND created_at > $2
    ORDER BY coalesce(patron_id, user_id), created_at DESC, n DESC
)
SELECT c.id::text, last.until_at FROM last JOIN customer c ON c.id = last.user_id OR c.patron_id = last.patron_id
WHERE last.action = 'ban' AND last.until_at > $1 AND c.expires_at > $1;

-- name: ban_of_patron
SELECT action, until_at FROM moderation_actions WHERE patron_id = $1 AND action IN ('ban', 'unban') ORDER BY created_at DESC, n DESC LIMIT 1;
