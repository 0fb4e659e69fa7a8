-- Cafés as people see them; staff, receipts, customers, patrons and their sessions.

-- name: cafe_add
WITH made AS (
    INSERT INTO cafe (id, name, address, wifi_ssid, latitude, longitude, radius_meters, cidrs, join_policy, timezone, limits_profile, limits_overrides, menu,
        retention_days, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::jsonb, $13::text::jsonb, $14, $15)
    RETURNING id
)
INSERT INTO cafe_line (cafe_id, epoch) SELECT id, $16 FROM made;

-- name: cafe_get
SELECT id::text, name, address, wifi_ssid, latitude, longitude, radius_meters, cidrs, join_policy, timezone, limits_profile,
    limits_overrides::text, menu::text, retention_days, created_at
FROM cafe WHERE id = $1;

-- name: cafe_lock
SELECT id::text, name, address, wifi_ssid, latitude, longitude, radius_meters, cidrs, join_policy, timezone, limits_profile,
    limits_overrides::text, menu::text, retention_days, created_at
FROM cafe WHERE id = $1 FOR UPDATE;

-- name: cafe_list
SELECT id::text, name, address, wifi_ssid, latitude, longitude, radius_meters, cidrs, join_policy, timezone, limits_profile,
    limits_overrides::text, menu::text, retention_days, created_at
FROM cafe ORDER BY created_at, id;

-- name: cafe_set
UPDATE cafe SET name = $2, address = $3, wifi_ssid = $4, latitude = $5, longitude = $6, radius_meters = $7, cidrs = $8, join_policy = $9,
    timezone = $10, limits_profile = $11, limits_overrides = $12::text::jsonb, menu = $13::text::jsonb, retention_days = $14
WHERE id = $1;

-- name: cafe_epoch
SELECT epoch::text FROM cafe_line WHERE cafe_id = $1;

-- name: staff_add
INSERT INTO staff (id, cafe_id, name, role, password_hash, created_at)
SELECT $1, id, $3, $4, $5, $6 FROM cafe WHERE id = $2
RETURNING id::text;

-- name: staff_by_name
SELECT id::text, cafe_id::text, name, role, password_hash, created_at, disabled_at FROM staff WHERE cafe_id = $1 AND lower(name) = lower($2);

-- name: staff_by_id
SELECT id::text, cafe_id::text, name, role, password_hash, created_at, disabled_at FROM staff WHERE id = $1;

-- name: staff_list
SELECT id::text, cafe_id::text, name, role, password_hash, created_at, disabled_at FROM staff
WHERE $1::uuid IS NULL OR cafe_id = $1 ORDER BY cafe_id, created_at, id;

-- name: staff_disable
UPDATE staff SET disabled_at = coalesce(disabled_at, $2) WHERE id = $1
RETURNING id::text, cafe_id::text, name, role, password_hash, created_at, disabled_at;

-- name: staff_passwd
UPDATE staff SET password_hash = $2, disabled_at = NULL WHERE id = $1
RETURNING id::text, cafe_id::text, name, role, password_hash, created_at, disabled_at;

-- name: staff_rehash
UPDATE staff SET password_hash = $3 WHERE id = $1 AND password_hash = $2;

-- name: receipt_add
INSERT INTO receipt (id, cafe_id, receipt_id, username, token_hash, items, staff_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9);

-- name: receipt_lock
SELECT id::text, username, token_hash, tries, expires_at, used_at FROM receipt WHERE cafe_id = $1 AND lower(username) = lower($2) FOR UPDATE;

-- name: receipt_wrong_try
UPDATE receipt SET tries = tries + 1 WHERE id = $1;

-- name: receipt_use
UPDATE receipt SET used_at = $2, user_id = $3 WHERE id = $1 AND used_at IS NULL RETURNING id;

-- name: customer_free_name
UPDATE customer SET ended_at = expires_at WHERE cafe_id = $1 AND lower(username) = lower($2) AND ended_at IS NULL AND expires_at <= $3;

-- name: customer_add
-- With the badge their patron has.
INSERT INTO customer (id, cafe_id, patron_id, username, created_at, expires_at, badge_status, badge_until)
SELECT $1::uuid, $2::uuid, $3::uuid, $4::text, $5::timestamptz, $6::timestamptz, coalesce(b.type, 'none'), b.expires_at
FROM (SELECT) AS one LEFT JOIN badge b ON b.patron_id = $3 AND b.type = 'regular' AND b.expires_at > $5
RETURNING id::text, cafe_id::text, username, badge_status, interests, poke_enabled, created_at, expires_at, ended_at, badge_until;

-- name: customer_add_many
INSERT INTO customer (id, cafe_id, username, created_at, expires_at)
SELECT made.id, $1, made.username, $4, $5 FROM unnest($2::uuid[], $3::text[]) AS made (id, username);

-- name: customer_by_id
SELECT id::text, cafe_id::text, username, badge_status, interests, poke_enabled, created_at, expires_at, ended_at FROM customer WHERE id = $1;

-- name: customer_list
SELECT id::text, cafe_id::text, username, badge_status, interests, poke_enabled, created_at, expires_at, ended_at FROM customer
WHERE cafe_id = $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY created_at, id LIMIT $3;

-- name: customer_end
UPDATE customer SET ended_at = least(coalesce(ended_at, $2), expires_at) WHERE id = $1
RETURNING id::text, cafe_id::text, username, badge_status, interests, poke_enabled, created_at, expires_at, ended_at;

-- name: customer_ended_early
SELECT id::text, expires_at FROM customer WHERE expires_at > $1 AND ended_at IS NOT NULL;

-- name: patron_renew
UPDATE patron SET expires_at = $4 WHERE cafe_id = $1 AND key_hash = $2 AND expires_at > $3 RETURNING id::text;

-- name: patron_add
INSERT INTO patron (id, cafe_id, key_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5);

-- name: session_add
INSERT INTO session (id, user_id, staff_id, refresh_jti, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: session_add_many
INSERT INTO session (id, user_id, created_at, expires_at)
SELECT made.id, made.user_id, $3, $4 FROM unnest($1::uuid[], $2::uuid[]) AS made (id, user_id);

-- name: session_lock
SELECT s.refresh_jti::text, s.expires_at AS session_expires_at, s.revoked_at,
    c.id::text, c.cafe_id::text, c.username, c.badge_status, c.interests, c.poke_enabled, c.created_at, c.expires_at, c.ended_at
FROM session s JOIN customer c ON c.id = s.user_id WHERE s.id = $1 AND s.user_id = $2 FOR UPDATE OF s;

-- name: session_live
SELECT s.id::text AS session_id, s.refresh_jti::text,
    c.id::text, c.cafe_id::text, c.username, c.badge_status, c.interests, c.poke_enabled, c.created_at, c.expires_at, c.ended_at
FROM session s JOIN customer c ON c.id = s.user_id
WHERE s.id > $2 AND s.revoked_at IS NULL AND s.expires_at > $1 AND c.ended_at IS NULL AND s.refresh_jti IS NOT NULL
ORDER BY s.id LIMIT $3;

-- name: session_rotate
UPDATE session SET refresh_jti = $2 WHERE id = $1;

-- name: session_revoke
UPDATE session SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1;

-- name: session_revoke_staff
UPDATE session SET revoked_at = $2 WHERE staff_id = $1 AND revoked_at IS NULL AND expires_at > $2 RETURNING id::text, expires_at;

-- name: session_revoke_user
UPDATE session SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 RETURNING id::text, expires_at;

-- name: session_revoked
SELECT id::text, expires_at FROM session WHERE revoked_at IS NOT NULL AND expires_at > $1;
