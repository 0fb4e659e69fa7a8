-- Claude in the café: what owners chose, and what was asked.

-- name: agent_config_get
SELECT enabled, persona, custom_text, proactivity, monthly_budget_cents, daily_budget_cents FROM agent_config WHERE cafe_id = $1

-- name: agent_config_lock
SELECT id FROM cafe WHERE id = $1 FOR UPDATE

-- name: agent_config_set
INSERT INTO agent_config (cafe_id, enabled, persona, custom_text, proactivity, monthly_budget_cents, daily_budget_cents)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (cafe_id) DO UPDATE SET
    enabled = EXCLUDED.enabled, persona = EXCLUDED.persona, custom_text = EXCLUDED.custom_text, proactivity = EXCLUDED.proactivity,
    monthly_budget_cents = EXCLUDED.monthly_budget_cents, daily_budget_cents = EXCLUDED.daily_budget_cents
