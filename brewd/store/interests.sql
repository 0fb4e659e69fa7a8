-- What customers are interested in, and whether they may be poked.

-- name: interests_lock
SELECT interests FROM customer WHERE id = $1 AND ended_at IS NULL AND expires_at > $2 FOR NO KEY UPDATE;

-- name: interests_set
UPDATE customer SET interests = $2, interests_at = CASE WHEN interests = $2 THEN interests_at ELSE $3 END WHERE id = $1
RETURNING id::text, cafe_id::text, username, badge_status, interests, poke_enabled, created_at, expires_at, ended_at;

-- name: poke_enabled_set
UPDATE customer SET poke_enabled = $2 WHERE id = $1 AND ended_at IS NULL AND expires_at > $3
RETURNING id::text, cafe_id::text, username, badge_status, interests, poke_enabled, created_at, expires_at, ended_at;
