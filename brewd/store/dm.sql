-- Direct messages: who has a channel, and what is said in it. Whoever asks ($2, of the café $3) must be one of its two: to anybody else it is not there.

-- name: dm_look
-- Where the channel stands, who the other one is, and the message that was sent here before as $4, if there is one.
SELECT c.last_seq, o.id::text AS other_id, o.ended_at AS other_ended_at, o.expires_at AS other_expires_at,
    m.id::text, m.channel_id::text, m.seq, m.author_id::text, me.username, m.content, m.created_at, m.deleted_at
FROM dm_channel c
JOIN customer me ON me.id = $2
JOIN customer o ON o.id = CASE WHEN c.user_a = $2 THEN c.user_b ELSE c.user_a END
LEFT JOIN dm_message m ON m.channel_id = c.id AND m.author_id = $2 AND m.client_msg_id = $4
WHERE c.id = $1 AND c.cafe_id = $3 AND $2 IN (c.user_a, c.user_b);

-- name: dm_send
-- As the number after $3, or not at all: so that one whose answer was lost cannot come in behind one that was told.
WITH numbered AS (
    UPDATE dm_channel SET last_seq = last_seq + 1, last_message_at = $7
    WHERE id = $1 AND $2 IN (user_a, user_b) AND last_seq = $3
    RETURNING id, last_seq
)
INSERT INTO dm_message (channel_id, seq, id, author_id, content, client_msg_id, created_at)
SELECT id, last_seq, $4, $2, $5, $6, $7 FROM numbered
RETURNING seq;

-- name: dm_before
SELECT m.id::text, m.channel_id::text, m.seq, m.author_id::text, a.username, m.content, m.client_msg_id, m.created_at, m.deleted_at
FROM dm_message m JOIN customer a ON a.id = m.author_id
WHERE m.channel_id = $1 AND m.seq < $2 ORDER BY m.seq DESC LIMIT $3;

-- name: dm_after
SELECT m.id::text, m.channel_id::text, m.seq, m.author_id::text, a.username, m.content, m.client_msg_id, m.created_at, m.deleted_at
FROM dm_message m JOIN customer a ON a.id = m.author_id
WHERE m.channel_id = $1 AND m.seq > $2 ORDER BY m.seq LIMIT $3;

-- name: dm_channels
-- Of the user $1 in the café $2. More than $4 unread are as many.
SELECT c.id::text AS channel, o.id::text AS other_id, o.username AS other_name, coalesce(c.last_message_at, c.created_at) AS at, u.unread,
    m.id::text, m.channel_id::text, m.seq, m.author_id::text, a.username, m.content, m.created_at, m.deleted_at
FROM dm_channel c
JOIN customer o ON o.id = CASE WHEN c.user_a = $1 THEN c.user_b ELSE c.user_a END
LEFT JOIN dm_message m ON m.channel_id = c.id AND m.seq = c.last_seq
LEFT JOIN customer a ON a.id = m.author_id
CROSS JOIN LATERAL (
    SELECT count(*) AS unread FROM (
        SELECT 1 FROM dm_message n
        WHERE n.channel_id = c.id AND n.seq > CASE WHEN c.user_a = $1 THEN c.read_a ELSE c.read_b END AND n.author_id <> $1 AND n.deleted_at IS NULL
        LIMIT $4
    ) AS counted
) AS u
WHERE (c.user_a = $1 OR c.user_b = $1) AND c.cafe_id = $2
ORDER BY at DESC, c.id DESC LIMIT $3;

-- name: dm_read
-- Never back, and never beyond what there is.
WITH before AS (
    SELECT id, user_a = $2 AS is_a, CASE WHEN user_a = $2 THEN read_a ELSE read_b END AS seq, least($4::bigint, last_seq) AS wanted
    FROM dm_channel WHERE id = $1 AND cafe_id = $3 AND $2 IN (user_a, user_b) FOR UPDATE
), moved AS (
    UPDATE dm_channel c SET read_a = CASE WHEN b.is_a THEN b.wanted ELSE c.read_a END, read_b = CASE WHEN b.is_a THEN c.read_b ELSE b.wanted END
    FROM before b WHERE c.id = b.id AND b.wanted > b.seq
    RETURNING c.id
)
SELECT greatest(b.seq, b.wanted) AS seq, EXISTS (SELECT 1 FROM moved) AS moved, (
    SELECT count(*) FROM (
        SELECT 1 FROM dm_message n
        WHERE n.channel_id = b.id AND n.seq > greatest(b.seq, b.wanted) AND n.author_id <> $2 AND n.deleted_at IS NULL
        LIMIT $5
    ) AS counted
) AS unread
FROM before b;

-- name: dm_message_look
SELECT m.channel_id::text, m.author_id::text, CASE WHEN c.user_a = $2 THEN c.user_b ELSE c.user_a END::text AS other_id
FROM dm_message m JOIN dm_channel c ON c.id = m.channel_id
WHERE m.id = $1 AND c.cafe_id = $3 AND $2 IN (c.user_a, c.user_b);

-- name: dm_delete
UPDATE dm_message m SET content = '', deleted_at = coalesce(m.deleted_at, $3)
FROM (SELECT id, deleted_at FROM dm_message WHERE id = $1 FOR UPDATE) AS b, customer a
WHERE m.id = b.id AND m.author_id = $2 AND a.id = m.author_id
RETURNING m.id::text, m.channel_id::text, m.seq, m.author_id::text, a.username, m.content, m.created_at, m.deleted_at, b.deleted_at IS NULL AS fresh;
