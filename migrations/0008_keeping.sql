-- What is kept no longer than it is needed, found without looking through everything that is.

CREATE INDEX agent_queries_at_idx ON agent_queries (at);
CREATE INDEX cafe_analytics_hour_idx ON cafe_analytics (hour);

-- Whom it was done to is forgotten. No name says so: any of them may be a guest's. What was forgotten before there was this column
-- is forgotten once more, which changes nothing.
ALTER TABLE moderation_actions ADD COLUMN erased boolean NOT NULL DEFAULT false;

CREATE INDEX moderation_actions_named_idx ON moderation_actions (user_id) WHERE NOT erased;
