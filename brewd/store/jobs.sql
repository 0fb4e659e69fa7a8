-- The runs of the jobs: claimed, held, ended, listed, forgotten.

-- name: job_first
-- Known from now on: what was due before is nobody's to catch up.
INSERT INTO job_run (id, job, due_at, started_at, lease_until, ended_at, outcome)
SELECT $1, $2, $3, $4, $4, $4, 'first' WHERE NOT EXISTS (SELECT FROM job_run WHERE job = $2)
ON CONFLICT DO NOTHING;

-- name: job_lost
UPDATE job_run SET ended_at = $2, outcome = 'lost' WHERE job = $1 AND ended_at IS NULL AND lease_until <= $2
RETURNING id::text;

-- name: job_claim
INSERT INTO job_run (id, job, due_at, started_at, lease_until)
SELECT $1, $2, $3, $4, $5
WHERE NOT EXISTS (SELECT FROM job_run WHERE job = $2 AND due_at >= $3 AND outcome NOT IN ('interrupted', 'lost'))
ON CONFLICT DO NOTHING
RETURNING id::text;

-- name: job_under_way
SELECT id::text, due_at, started_at, lease_until FROM job_run WHERE job = $1 AND ended_at IS NULL;

-- name: job_hold
UPDATE job_run SET lease_until = $2 WHERE id = $1 AND ended_at IS NULL RETURNING id::text;

-- name: job_end
UPDATE job_run SET ended_at = $2, outcome = $3, detail = $4::text::jsonb WHERE id = $1 AND ended_at IS NULL RETURNING id::text;

-- name: job_last
-- Of each job the newest run, under way or not.
SELECT DISTINCT ON (job) id::text, job, due_at, started_at, ended_at, outcome, detail::text FROM job_run
WHERE job = ANY($1::text[]) AND outcome IS DISTINCT FROM 'first'
ORDER BY job, started_at DESC, id DESC;

-- name: job_prune
-- What a job did before $2, a few at a time; never its newest row, which says what was done last.
DELETE FROM job_run WHERE id = ANY(ARRAY(
    SELECT r.id FROM job_run r
    WHERE r.job = $1 AND r.started_at < $2 AND r.ended_at IS NOT NULL AND r.started_at < (SELECT max(m.started_at) FROM job_run m WHERE m.job = $1)
    ORDER BY r.started_at LIMIT 100));
