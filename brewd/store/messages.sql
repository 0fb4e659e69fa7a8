-- The message line: opening it, committing to it, settling a commit that got no answer, and reading it.

-- name: line_open
UPDATE cafe_line SET generation = generation + 1 WHERE cafe_id = $1
RETURNING cafe_id::text, epoch::text, generation, last_seq;

-- name: line_commit
WITH owned AS (
    UPDATE cafe_line l SET last_seq = b.last_seq
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS b (cafe_id, generation, first_seq, last_seq)
    WHERE l.cafe_id = b.cafe_id AND l.generation = b.generation AND l.last_seq = b.first_seq - 1
    RETURNING l.cafe_id
), written AS (
    INSERT INTO message (cafe_id, seq, id, user_id, username, badge, content, client_msg_id, created_at)
    SELECT m.cafe_id, m.seq, m.id, m.user_id, m.username, m.badge, m.content, m.client_msg_id, m.created_at
    FROM unnest($5::uuid[], $6::bigint[], $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[])
         AS m (cafe_id, seq, id, user_id, username, badge, content, client_msg_id, created_at)
    JOIN owned ON owned.cafe_id = m.cafe_id
)
SELECT cafe_id::text FROM owned;

-- name: line_redact
WITH owned AS (
    SELECT l.cafe_id FROM cafe_line l
    JOIN unnest($1::uuid[], $2::bigint[]) AS b (cafe_id, generation) ON l.cafe_id = b.cafe_id AND l.generation = b.generation
    FOR SHARE OF l
), gone AS (
    UPDATE message m SET content = '', deleted_at = coalesce(m.deleted_at, r.at)
    FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[]) AS r (cafe_id, id, user_id, at), owned
    WHERE owned.cafe_id = r.cafe_id AND m.cafe_id = r.cafe_id AND m.id = r.id AND (r.user_id IS NULL OR m.user_id = r.user_id)
    RETURNING m.*
)
SELECT owned.cafe_id::text AS owner, g.id::text, g.seq, g.user_id::text, g.username, g.badge, g.content, g.created_at, g.deleted_at
FROM owned LEFT JOIN gone g ON g.cafe_id = owned.cafe_id;

-- name: line_fence
UPDATE cafe_line l SET generation = l.generation + 1
FROM unnest($1::uuid[], $2::bigint[]) AS b (cafe_id, generation)
WHERE l.cafe_id = b.cafe_id AND l.generation = b.generation
RETURNING l.cafe_id::text, l.generation;

-- name: message_present
SELECT id::text FROM message WHERE id = ANY($1::uuid[]);

-- name: message_by_client_id
SELECT m.cafe_id::text, m.id::text, m.seq, m.user_id::text, m.username, m.badge, m.content, m.client_msg_id, m.created_at, m.deleted_at
FROM message m
JOIN unnest($1::uuid[], $2::text[]) AS k (user_id, client_msg_id) ON m.user_id = k.user_id AND m.client_msg_id = k.client_msg_id;

-- name: message_after
SELECT cafe_id::text, id::text, seq, user_id::text, username, badge, content, client_msg_id, created_at, deleted_at
FROM message WHERE cafe_id = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- name: message_before
SELECT cafe_id::text, id::text, seq, user_id::text, username, badge, content, client_msg_id, created_at, deleted_at
FROM message WHERE cafe_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3;
