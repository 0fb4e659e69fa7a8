-- What is done to every table that knows of a person, when a customer (erase_user_…) or a patron (erase_patron_…) is erased.
--
-- The name ends in the table's; that is how `people/erasure.py` finds them, and what the receipt says. They run in the order in which they
-- stand here, each in a transaction of its own and again for as long as it touches $2 rows, so that none is large: $1 the ids, $2 rows at
-- most, $3 for each id the one that what has to stay stays under. A statement that needs fewer of them, from the left, has fewer.

-- name: erase_user_message
-- What they said stays until its time is over, as nobody's.
UPDATE message m SET user_id = g.alias, username = 'guest', badge = NULL, client_msg_id = NULL
FROM unnest($1::uuid[], $3::uuid[]) AS g (id, alias)
WHERE m.user_id = g.id
    AND m.id = ANY(ARRAY(SELECT f.id FROM message f WHERE f.user_id = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_limit_use
DELETE FROM limit_use WHERE id = ANY(ARRAY(SELECT f.id FROM limit_use f WHERE f.user_id = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_moderation_actions
-- That it was done, by whom and why stays; whom it was done to does not, nor which messages are theirs. A ban or a mute goes on by the patron.
UPDATE moderation_actions m SET user_id = gen_random_uuid(), username = 'guest', erased = true,
    reason = replace(replace(replace(m.reason, m.username, 'guest'), lower(m.username), 'guest'), m.user_id::text, 'guest'),
    patron_id = CASE WHEN m.action IN ('ban', 'unban', 'mute', 'unmute') THEN m.patron_id END
WHERE m.id = ANY(ARRAY(SELECT f.id FROM moderation_actions f WHERE f.user_id = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_poke
-- Those to them go; those from them stay until they are over, from nobody: one that vanished with its sender would say who that was.
WITH few AS (
    (SELECT f.id, true AS mine FROM poke f WHERE f.from_user_id = ANY($1::uuid[]) LIMIT $2::integer)
    UNION ALL
    (SELECT f.id, false FROM poke f WHERE f.to_user_id = ANY($1::uuid[]) LIMIT $2::integer)
), sent AS (
    UPDATE poke SET from_user_id = NULL WHERE id IN (SELECT id FROM few WHERE mine) AND id NOT IN (SELECT id FROM few WHERE NOT mine) RETURNING 1
), gone AS (
    DELETE FROM poke WHERE id IN (SELECT id FROM few WHERE NOT mine) RETURNING 1
)
SELECT 1 FROM sent UNION ALL SELECT 1 FROM gone;

-- name: erase_user_dm_message
-- What a pair said goes with either of them.
DELETE FROM dm_message WHERE id = ANY(ARRAY(
    SELECT f.id FROM dm_message f JOIN dm_channel d ON d.id = f.channel_id
    WHERE d.user_a = ANY($1::uuid[]) OR d.user_b = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_dm_channel
DELETE FROM dm_channel WHERE id = ANY(ARRAY(
    SELECT f.id FROM dm_channel f WHERE f.user_a = ANY($1::uuid[]) OR f.user_b = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_receipt
-- The till's number stays, so that it is good for one name only.
UPDATE receipt SET username = 'gone-' || id, items = '[]', token_hash = '', user_id = NULL WHERE user_id = ANY($1::uuid[]);

-- name: erase_user_tip
-- That it was given stays with the patron.
UPDATE tip SET user_id = NULL WHERE id = ANY(ARRAY(SELECT f.id FROM tip f WHERE f.user_id = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_agent_queries
-- What it cost stays; who asked, and what, does not.
UPDATE agent_queries SET user_id = NULL, session_id = NULL, query = NULL
WHERE id = ANY(ARRAY(SELECT f.id FROM agent_queries f WHERE f.user_id = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_session
DELETE FROM session WHERE id = ANY(ARRAY(SELECT f.id FROM session f WHERE f.user_id = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_user_customer
-- Last: for as long as the row is there, the hourly job finds who was only half erased.
DELETE FROM customer WHERE id = ANY($1::uuid[]);

-- name: erase_patron_customer
-- The customers they still are stay, and are nobody's visits any more.
UPDATE customer SET patron_id = NULL, badge_status = 'none', badge_until = NULL WHERE patron_id = ANY($1::uuid[]);

-- name: erase_patron_moderation_actions
UPDATE moderation_actions SET patron_id = NULL WHERE patron_id = ANY($1::uuid[]);

-- name: erase_patron_tip
DELETE FROM tip WHERE id = ANY(ARRAY(SELECT f.id FROM tip f WHERE f.patron_id = ANY($1::uuid[]) LIMIT $2::integer));

-- name: erase_patron_visit
DELETE FROM visit WHERE (patron_id, day) IN (SELECT f.patron_id, f.day FROM visit f WHERE f.patron_id = ANY($1::uuid[]) LIMIT $2::integer);

-- name: erase_patron_badge
DELETE FROM badge WHERE (patron_id, type) IN (SELECT f.patron_id, f.type FROM badge f WHERE f.patron_id = ANY($1::uuid[]) LIMIT $2::integer);

-- name: erase_patron_patron
DELETE FROM patron WHERE id = ANY($1::uuid[]);

-- name: customer_over
-- Whose time is over, those who have waited longest first.
SELECT id::text, cafe_id::text, expires_at FROM (
    (SELECT id, cafe_id, expires_at FROM customer WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)
    UNION
    (SELECT id, cafe_id, expires_at FROM customer WHERE ended_at IS NOT NULL ORDER BY ended_at LIMIT $2)
) o ORDER BY expires_at LIMIT $2;

-- name: session_of_users
SELECT id::text, user_id::text FROM session WHERE user_id = ANY($1::uuid[]);

-- name: erased_add
INSERT INTO erased (id_hash, expires_at) SELECT * FROM unnest($1::bytea[], $2::timestamptz[]) ON CONFLICT DO NOTHING;

-- name: erased_live
SELECT id_hash, expires_at FROM erased WHERE expires_at > $1;

-- name: patron_by_key
SELECT id::text FROM patron WHERE cafe_id = $1 AND key_hash = $2;

-- name: patron_over
-- Nobody came back with the key for so long that it is good no more.
SELECT id::text FROM patron WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2;

-- name: moderated_over
-- Users the log names who are gone, and of whom no ban and no mute is in force any more.
SELECT DISTINCT m.user_id::text AS id FROM moderation_actions m
WHERE NOT m.erased AND NOT EXISTS (SELECT FROM customer c WHERE c.id = m.user_id)
    AND NOT EXISTS (
        SELECT FROM moderation_actions f WHERE f.user_id = m.user_id AND f.action IN ('ban', 'mute') AND f.until_at > $1
            AND NOT EXISTS (
                SELECT FROM moderation_actions o
                WHERE (o.user_id = f.user_id OR (o.patron_id = f.patron_id AND f.action = 'ban')) AND o.action IN (f.action, 'un' || f.action)
                    AND (o.created_at, o.n) > (f.created_at, f.n)))
LIMIT $2;

-- name: receipt_unused_over
-- Names and orders on receipts that nobody used in time.
UPDATE receipt SET username = 'gone-' || id, items = '[]', token_hash = ''
WHERE id = ANY(ARRAY(SELECT r.id FROM receipt r WHERE r.used_at IS NULL AND r.expires_at <= $1 AND r.token_hash <> '' ORDER BY r.expires_at LIMIT $2));

-- name: session_over
DELETE FROM session WHERE id = ANY(ARRAY(SELECT s.id FROM session s WHERE s.expires_at <= $1 ORDER BY s.expires_at LIMIT $2));

-- name: erased_over
DELETE FROM erased WHERE id_hash = ANY(ARRAY(SELECT e.id_hash FROM erased e WHERE e.expires_at <= $1 ORDER BY e.expires_at LIMIT $2));
