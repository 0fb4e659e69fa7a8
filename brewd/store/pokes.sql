-- Pokes, and the channel that a match opens.

-- name: poke_sender
-- Who pokes, and whether nothing new would come of it: $2 was poked by them and it is not over, or they know each other.
SELECT c.interests,
    EXISTS (SELECT FROM poke p WHERE p.from_user_id = $1 AND p.to_user_id = $2 AND p.status <> 'matched' AND p.expires_at > $3)
    OR EXISTS (SELECT FROM dm_channel d WHERE d.user_a = least($1::uuid, $2::uuid) AND d.user_b = greatest($1::uuid, $2::uuid)) AS known
FROM customer c WHERE c.id = $1 AND c.ended_at IS NULL AND c.expires_at > $3;

-- name: poke_pair_lock
-- One at a time for each pair, whoever of the two asks, and whether the other exists or not.
SELECT pg_advisory_xact_lock(hashtextextended(least($1::uuid, $2::uuid)::text || greatest($1::uuid, $2::uuid)::text, 0));

-- name: poke_people
-- In one order for everybody. Nobody of them is erased meanwhile.
SELECT id::text, cafe_id::text, username, poke_enabled, ended_at IS NULL AND expires_at > $2 AS live FROM customer
WHERE id = ANY($1::uuid[]) ORDER BY id FOR KEY SHARE;

-- name: poke_between
SELECT p.id::text, p.from_user_id = $1 AS mine, p.cafe_id::text, p.shared_interest, p.status, p.expires_at, d.id::text AS channel_id
FROM (SELECT least($1::uuid, $2::uuid) AS a, greatest($1::uuid, $2::uuid) AS b) pair
LEFT JOIN dm_channel d ON d.user_a = pair.a AND d.user_b = pair.b
LEFT JOIN poke p ON (p.from_user_id = $1 AND p.to_user_id = $2) OR (p.from_user_id = $2 AND p.to_user_id = $1)
ORDER BY p.created_at DESC, p.id;

-- name: poke_add
-- $10: whoever is banned or muted is none of the crowd. The answer says whether there are $11 in it.
INSERT INTO poke (id, cafe_id, from_user_id, to_user_id, shared_interest, status, created_at, deliver_at, expires_at, crowd)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $11::bigint <= (
    SELECT count(*) FROM (
        SELECT FROM customer o
        WHERE o.cafe_id = $2 AND o.ended_at IS NULL AND o.expires_at > $7 AND o.poke_enabled AND o.interests @> ARRAY[$5]
            AND o.id <> $4 AND o.id <> ALL($10::uuid[])
        LIMIT $11
    ) few
)
RETURNING crowd;

-- name: poke_end
UPDATE poke SET status = $2, ended_at = $3 WHERE id = ANY($1::uuid[]);

-- name: channel_open
INSERT INTO dm_channel (id, cafe_id, user_a, user_b, shared_interest, created_at)
VALUES ($1, $2, least($3::uuid, $4::uuid), greatest($3::uuid, $4::uuid), $5, $6);

-- name: poke_to_me
-- One that was shown to $2. $3 and $4: when what is shown now was due.
SELECT id::text, from_user_id::text, cafe_id::text, shared_interest, status, deliver_at FROM poke
WHERE id = $1 AND to_user_id = $2 AND deliver_at >= $3 AND deliver_at <= $4;

-- name: poke_pending
-- In the order of ids, which are random. Also those of who is muted or banned by now: one that went and came with them would say who it is
-- from. $4: who is barred so, and makes no crowd. An interest is named while $5 people could have sent it: they
-- are seen by everybody, and had it when the poke came. That is the same whoever of them it was.
SELECT p.id::text, p.deliver_at, p.shared_interest, p.crowd AND $5::bigint <= (
    SELECT count(*) FROM (
        SELECT FROM customer o
        WHERE o.cafe_id = p.cafe_id AND o.ended_at IS NULL AND o.expires_at > $3 AND o.poke_enabled AND o.interests @> ARRAY[p.shared_interest]
            AND o.interests_at <= p.deliver_at AND o.id <> $1 AND o.id <> ALL($4::uuid[])
        LIMIT $5
    ) few
) AS named
FROM poke p
WHERE p.to_user_id = $1 AND p.status = 'pending' AND p.deliver_at >= $2 AND p.deliver_at <= $3
ORDER BY p.id LIMIT $6;

-- name: poke_sent
SELECT p.id::text, p.to_user_id::text, p.shared_interest, p.status, p.created_at, p.expires_at, d.id::text AS channel_id
FROM poke p LEFT JOIN dm_channel d ON p.status = 'matched' AND d.user_a = least(p.from_user_id, p.to_user_id) AND d.user_b = greatest(p.from_user_id, p.to_user_id)
WHERE p.from_user_id = $1 ORDER BY p.created_at DESC, p.id LIMIT $2;

-- name: poke_expire
UPDATE poke SET status = 'expired', ended_at = expires_at
WHERE id IN (SELECT id FROM poke WHERE status = 'pending' AND expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id;

-- name: poke_purge
DELETE FROM poke
WHERE id IN (SELECT id FROM poke WHERE expires_at <= $1 AND (from_user_id IS NULL OR expires_at <= $2) ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING id;
