-- Fifty agents with twenty releases and a thousand runs of the last hour each, as deploys and turns would
-- have left them: for benches/status.sh, which measures `status` on them.
SET search_path = rapidclaw;

INSERT INTO agents (id, name, schema_name, last_version)
SELECT gen_random_uuid(), format('bench-%s', n), format('bench_%s', n), 20 FROM generate_series(1, 50) n;

INSERT INTO releases (id, agent_id, version, image, inputs_digest, manifest, folder, secret_names)
SELECT gen_random_uuid(), a.id, v, 'sha256:' || encode(sha256(format('%s %s', a.id, v)::bytea), 'hex'),
    encode(sha256(format('%s inputs %s', a.id, v)::bytea), 'hex'), '{"graphs": {"agent": "./agent.py:graph"}}', a.name, '{}'
FROM agents a, generate_series(1, 20) v;

INSERT INTO rollouts (id, agent_id, release_id, generation, state, phase, phases, created_at, ended_at)
SELECT gen_random_uuid(), r.agent_id, r.id, gen_random_uuid(), 'succeeded', 'switch', '[]',
    now() - make_interval(hours => 21 - r.version), now() - make_interval(hours => 21 - r.version)
FROM releases r;

UPDATE agents a SET serving_release = r.id FROM releases r WHERE r.agent_id = a.id AND r.version = 20;

INSERT INTO threads (agent_id, id, given)
SELECT a.id, gen_random_uuid(), format('thread %s', n) FROM agents a, generate_series(1, 100) n;

INSERT INTO runs (id, agent_id, release_id, thread_id, graph, turn, status, request, attempt, input_tokens,
    output_tokens, cost, accepted_at, started_at, ended_at)
SELECT gen_random_uuid(), t.agent_id, a.serving_release, t.id, 'agent', true, 'success',
    '{"kind": "chat", "message": "hello", "full": false}', 1, 900, 120, 0.0014,
    now() - make_interval(secs => n * 300 + 2), now() - make_interval(secs => n * 300 + 2),
    now() - make_interval(secs => n * 300 + random())
FROM threads t JOIN agents a ON a.id = t.agent_id, generate_series(0, 9) n;

-- As autovacuum does meanwhile.
VACUUM ANALYZE;
