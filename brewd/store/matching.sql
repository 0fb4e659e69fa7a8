-- Finding people: who in a café shares interests with somebody.

-- name: discover_order
-- Everybody of café $1 whom $2, with the interests $3, may find at $4: most shared first, then by name; and how many each shares.
-- Nobody whom $2 has poked, however that ended: so somebody who declined is gone from here no sooner than the others.
-- The ids come in one piece, 16 bytes each. OFFSET 0: a plan that is made without the arguments would walk through the people of all cafés,
-- and would count twice. One term for each of at most ten interests: a subquery for every row takes twice as long.
SELECT coalesce(string_agg(uuid_send(f.id), ''::bytea), ''::bytea) AS ids, coalesce(array_agg(f.shared), '{}') AS shared
FROM (
    SELECT c.id, lower(c.username) COLLATE "C" AS name,
        coalesce(($3::text[])[1] = ANY(c.interests), false)::integer + coalesce(($3::text[])[2] = ANY(c.interests), false)::integer
        + coalesce(($3::text[])[3] = ANY(c.interests), false)::integer + coalesce(($3::text[])[4] = ANY(c.interests), false)::integer
        + coalesce(($3::text[])[5] = ANY(c.interests), false)::integer + coalesce(($3::text[])[6] = ANY(c.interests), false)::integer
        + coalesce(($3::text[])[7] = ANY(c.interests), false)::integer + coalesce(($3::text[])[8] = ANY(c.interests), false)::integer
        + coalesce(($3::text[])[9] = ANY(c.interests), false)::integer + coalesce(($3::text[])[10] = ANY(c.interests), false)::integer AS shared
    FROM (SELECT id, username, interests, expires_at FROM customer WHERE cafe_id = $1 AND ended_at IS NULL AND poke_enabled OFFSET 0) c
    WHERE c.expires_at > $4 AND c.interests && $3::text[] AND c.id <> $2
        AND c.id <> ALL(ARRAY(
            SELECT p.to_user_id FROM poke p WHERE p.from_user_id = $2
            UNION ALL SELECT d.user_b FROM dm_channel d WHERE d.user_a = $2
            UNION ALL SELECT d.user_a FROM dm_channel d WHERE d.user_b = $2
        ))
    ORDER BY shared DESC, name, c.id OFFSET 0
) f;

-- name: discover_page
-- Those of $3 who may still be found, in the order of $3.
SELECT c.id::text, c.username, c.interests
FROM unnest($3::uuid[]) WITH ORDINALITY AS page (id, n) JOIN customer c ON c.id = page.id
WHERE c.cafe_id = $1 AND c.ended_at IS NULL AND c.expires_at > $4 AND c.poke_enabled AND c.interests && $5::text[] AND c.id <> ALL($6::uuid[])
    AND NOT EXISTS (SELECT FROM poke p WHERE p.from_user_id = $2 AND p.to_user_id = c.id)
    AND NOT EXISTS (SELECT FROM dm_channel d WHERE d.user_a = least($2, c.id) AND d.user_b = greatest($2, c.id))
ORDER BY page.n;

-- name: discover_self
SELECT interests FROM customer WHERE id = $1 AND ended_at IS NULL AND expires_at > $2;
