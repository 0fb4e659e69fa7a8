-- What a café allows, what people have used of it, and what was decided about them.

-- Single values of the café's limits profile that this café replaces, like {"message": {"per_hour": 40}}.
ALTER TABLE cafe ADD COLUMN limits_overrides jsonb NOT NULL DEFAULT '{}';

-- The log: who, whom, why, until when. Also what is read back when a café opens, so it outlives every restart.
-- n: which of two in the same millisecond came first. staff_id and staff_name NULL: brewd decided, by `rule`; staff_id alone: the operator, or staff who left. user_id has no foreign key: the log may outlive the user it is about.
CREATE TABLE moderation_actions (
    id          uuid PRIMARY KEY,
    cafe_id     uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    action      text NOT NULL CHECK (action IN ('mute', 'unmute', 'kick', 'ban', 'unban', 'delete', 'block')),
    user_id     uuid NOT NULL,
    username    text NOT NULL,
    patron_id   uuid REFERENCES patron ON DELETE SET NULL,
    staff_id    uuid REFERENCES staff ON DELETE SET NULL,
    staff_name  text,
    rule        text,
    reason      text NOT NULL DEFAULT '',
    until_at    timestamptz,
    message_id  uuid,
    created_at  timestamptz NOT NULL,
    n           bigint GENERATED ALWAYS AS IDENTITY
);

CREATE INDEX moderation_actions_cafe_idx ON moderation_actions (cafe_id, created_at);
CREATE INDEX moderation_actions_user_idx ON moderation_actions (user_id, created_at);
CREATE INDEX moderation_actions_ban_idx ON moderation_actions (created_at) WHERE action IN ('ban', 'unban');
CREATE INDEX moderation_actions_patron_idx ON moderation_actions (patron_id) WHERE patron_id IS NOT NULL;

-- Pokes and questions as they were charged; and, with `reset`, that everything of an action (NULL: of all) was given back.
-- Messages are not here: the messages themselves say when a token was taken.
CREATE TABLE limit_use (
    id          uuid PRIMARY KEY,
    cafe_id     uuid NOT NULL REFERENCES cafe ON DELETE CASCADE,
    user_id     uuid NOT NULL,
    action      text CHECK (action IN ('message', 'poke', 'agent')),
    session_id  uuid,
    reset       boolean NOT NULL DEFAULT false,
    at          timestamptz NOT NULL
);

CREATE INDEX limit_use_cafe_idx ON limit_use (cafe_id, at);
