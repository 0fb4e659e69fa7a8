-- What patrons earn: tips they gave, days they were there, and the badges that come of both. All of it hangs on the patron,
-- so it outlives the user, and goes with the patron.

-- user_id, staff_id: for whom and by whom it was recorded, as long as they are there.
CREATE TABLE tip (
    id            uuid PRIMARY KEY,
    cafe_id       uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    patron_id     uuid NOT NULL REFERENCES patron ON DELETE CASCADE,
    user_id       uuid REFERENCES customer ON DELETE SET NULL,
    staff_id      uuid REFERENCES staff ON DELETE SET NULL,
    amount_cents  integer NOT NULL CHECK (amount_cents > 0),
    currency      text NOT NULL,
    at            timestamptz NOT NULL
);

CREATE INDEX tip_patron_id_idx ON tip (patron_id, at);
CREATE INDEX tip_user_id_idx ON tip (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX tip_staff_id_idx ON tip (staff_id) WHERE staff_id IS NOT NULL;
CREATE INDEX tip_at_idx ON tip (at);

-- A day, by the café's calendar, on which a patron was there: whether early and late in it, and how many matches they had.
CREATE TABLE visit (
    patron_id  uuid NOT NULL REFERENCES patron ON DELETE CASCADE,
    day        date NOT NULL,
    early      boolean NOT NULL DEFAULT false,
    late       boolean NOT NULL DEFAULT false,
    matches    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (patron_id, day)
);

CREATE INDEX visit_day_idx ON visit (day);

-- One of a kind for each patron: the one they have, or had until a moment ago. id: another one with each time it is awarded anew,
-- and the same when it is prolonged.
CREATE TABLE badge (
    patron_id   uuid NOT NULL REFERENCES patron ON DELETE CASCADE,
    type        text NOT NULL CHECK (type IN ('regular', 'early_bird', 'night_owl', 'social_butterfly', 'frequent_visitor')),
    id          uuid NOT NULL,
    awarded_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (patron_id, type)
);

CREATE INDEX badge_expires_at_idx ON badge (expires_at);

-- Until when badge_status is so, for a user whose patron has such a badge: so that a login, and the end of a badge, need only this row.
ALTER TABLE customer ADD COLUMN badge_until timestamptz;

CREATE INDEX customer_badge_until_idx ON customer (badge_until) WHERE badge_until IS NOT NULL;
