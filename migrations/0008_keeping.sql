-- What is kept no longer than it is needed, found without looking through everything that is.

CREATE INDEX agent_queries_at_idx ON agent_queries (at);
CREATE INDEX cafe_analytics_hour_idx ON cafe_analytics (hour);
