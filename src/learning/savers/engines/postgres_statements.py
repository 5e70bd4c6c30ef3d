"""What PostgreSQL does for each request, in SQL. Parameters: see `postgres`."""

from typing import LiteralString

SCHEMA_VERSION = 1

SCHEMA: LiteralString = """
-- A thread is a hash of the tenant and the thread's id. Its name is the id itself, sealed, or empty if it was deleted.
-- The epoch changes when something is removed, and the horizon is the id of the moment of the last deletion.
CREATE TABLE IF NOT EXISTS lg_threads (
    thread bytea PRIMARY KEY, name bytea NOT NULL, epoch bigint NOT NULL,
    horizon bytea NOT NULL DEFAULT '', ends timestamptz
);
CREATE INDEX IF NOT EXISTS lg_threads_by_end ON lg_threads (ends) WHERE ends IS NOT NULL;
CREATE TABLE IF NOT EXISTS lg_checkpoints (
    thread bytea, space bytea, id bytea, run bytea NOT NULL, data bytea NOT NULL, needs bytea NOT NULL,
    PRIMARY KEY (thread, space, id)
);
CREATE INDEX IF NOT EXISTS lg_checkpoints_by_id ON lg_checkpoints (substring(thread FROM 1 FOR 8), id, thread, space);
CREATE INDEX IF NOT EXISTS lg_checkpoints_by_run ON lg_checkpoints (run) WHERE run <> '';
CREATE TABLE IF NOT EXISTS lg_items (
    thread bytea, name bytea, data bytea NOT NULL, needs bytea NOT NULL, PRIMARY KEY (thread, name)
);
-- Writes may come before their checkpoint, so there is no foreign key.
CREATE TABLE IF NOT EXISTS lg_writes (
    thread bytea, space bytea, id bytea, task bytea, index int, data bytea NOT NULL, needs bytea NOT NULL,
    PRIMARY KEY (thread, space, id, task, index)
);
-- All data is compressed already.
ALTER TABLE lg_checkpoints ALTER data SET STORAGE EXTERNAL;
ALTER TABLE lg_items ALTER data SET STORAGE EXTERNAL;
ALTER TABLE lg_writes ALTER data SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS lg_schema (version int NOT NULL);
INSERT INTO lg_schema SELECT 1 WHERE NOT EXISTS (SELECT FROM lg_schema)
"""

NAMES: LiteralString = (
    "substring(needs FROM at * 16 + 1 FOR 16) FROM {0}, generate_series(0, length(needs) / 16 - 1) at"
)
"""The names that are needed, one in a row."""

GUARDED: LiteralString = """
WITH old AS MATERIALIZED (
    SELECT * FROM lg_threads WHERE thread = %(thread)s FOR SHARE
), verdict AS MATERIALIZED (
    SELECT CASE
        WHEN old.ends <= now() THEN 'expired'
        WHEN %(lineage)s::bytea < old.horizon THEN 'deleted'
        WHEN old.epoch IS DISTINCT FROM %(epoch)s::bigint AND %(epoch)s::bigint IS NOT NULL THEN 'stale'
        WHEN %(extends)s::bytea IS NOT NULL AND coalesce(
            (SELECT max(id) FROM lg_checkpoints WHERE thread = %(thread)s AND space = %(space)s), ''
        ) NOT IN (%(extends)s, %(id)s) THEN 'conflict'
        ELSE 'stored'
    END AS kind, old.*
    FROM (VALUES (1)) one LEFT JOIN old ON true
), thread AS (
    INSERT INTO lg_threads (thread, name, epoch, ends)
    SELECT %(thread)s, %(name)s, %(new_epoch)s, now() + %(seconds)s * interval '1 second'
    FROM verdict
    WHERE kind = 'stored' AND (thread IS NULL OR name = '' OR ends IS NOT NULL OR %(seconds)s::float IS NOT NULL)
    ON CONFLICT (thread) DO UPDATE SET
        name = CASE WHEN lg_threads.name = '' THEN EXCLUDED.name ELSE lg_threads.name END,
        epoch = CASE WHEN lg_threads.name = '' THEN EXCLUDED.epoch ELSE lg_threads.epoch END,
        ends = EXCLUDED.ends
    RETURNING epoch
), items AS (
    INSERT INTO lg_items (thread, name, data, needs)
    SELECT %(thread)s, i.* FROM verdict,
        unnest(%(items)s::bytea[], %(item_data)s::bytea[], %(item_needs)s::bytea[]) i
    WHERE kind = 'stored'
    ON CONFLICT DO NOTHING
), put AS ({0})
SELECT kind, coalesce((SELECT epoch FROM thread), epoch) FROM verdict
"""

PUT = GUARDED.replace(
    "{0}",
    """
    INSERT INTO lg_checkpoints (thread, space, id, run, data, needs)
    SELECT %(thread)s, %(space)s, %(id)s, %(run)s, %(data)s, %(needs)s FROM verdict WHERE kind = 'stored'
    ON CONFLICT (thread, space, id) DO UPDATE SET run = EXCLUDED.run, data = EXCLUDED.data, needs = EXCLUDED.needs
""",
)

PUT_WRITES = GUARDED.replace(
    "{0}",
    """
    INSERT INTO lg_writes (thread, space, id, task, index, data, needs)
    SELECT %(thread)s, %(space)s, %(id)s, w.* FROM verdict,
        unnest(%(tasks)s::bytea[], %(indexes)s::int[], %(data)s::bytea[], %(needs)s::bytea[]) w
    WHERE kind = 'stored'
    ON CONFLICT (thread, space, id, task, index) DO UPDATE SET data = EXCLUDED.data, needs = EXCLUDED.needs
    WHERE lg_writes.index < 0
""",
)

NEWEST: LiteralString = """
    SELECT space, id, data, needs FROM lg_checkpoints WHERE thread = %(thread)s AND space = %(space)s
    ORDER BY id DESC LIMIT 1
"""

ONE: LiteralString = """
    SELECT space, id, data, needs FROM lg_checkpoints
    WHERE thread = %(thread)s AND space = %(space)s AND id = %(id)s
"""

SEVERAL: LiteralString = """
    SELECT c.space, c.id, c.data, c.needs
    FROM unnest(%(spaces)s::bytea[], %(ids)s::bytea[]) AS wanted (space, id)
    JOIN lg_checkpoints c ON c.thread = %(thread)s AND c.space = wanted.space AND c.id = wanted.id
"""

BATCH: LiteralString = (
    """
WITH RECURSIVE thread AS MATERIALIZED (
    SELECT epoch, name FROM lg_threads
    WHERE thread = %(thread)s AND name <> '' AND (ends IS NULL OR ends > now())
), chosen AS MATERIALIZED (
    SELECT * FROM ({0}) rows WHERE EXISTS (SELECT FROM thread)
), written AS MATERIALIZED (
    SELECT w.space, w.id, task, index, w.data, w.needs
    FROM chosen c JOIN lg_writes w ON w.thread = %(thread)s AND w.space = c.space AND w.id = c.id
), needing AS (
    SELECT needs FROM chosen UNION ALL SELECT needs FROM written
), nodes (name, needs) AS (
    SELECT i.name, i.needs FROM (SELECT """
    + NAMES.replace("{0}", "needing")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name AND get_bit(wanted.name, 120) = 1
    WHERE wanted.name NOT IN (SELECT unnest(%(known)s::bytea[]))
    UNION
    SELECT i.name, i.needs FROM (SELECT """
    + NAMES.replace("{0}", "nodes")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name AND get_bit(wanted.name, 120) = 1
    WHERE wanted.name NOT IN (SELECT unnest(%(known)s::bytea[]))
), needed (name) AS (
    SELECT """
    + NAMES.replace("{0}", "(SELECT needs FROM needing UNION ALL SELECT needs FROM nodes) AS all_of_them")
    + """
)
SELECT 'thread' AS kind, NULL::bytea AS key, NULL::bytea AS id, epoch AS index,
    NULL::bytea AS space, name AS data, NULL::bytea AS needs FROM thread
UNION ALL SELECT 'row', NULL, id, NULL, space, data, needs FROM chosen
UNION ALL SELECT 'write', task, id, index, space, data, needs FROM written
UNION ALL SELECT 'item', name, NULL, NULL, NULL, data, needs
FROM lg_items WHERE thread = %(thread)s AND name = ANY (ARRAY (
    SELECT name FROM needed EXCEPT SELECT unnest(%(known)s::bytea[])
))
"""
)

SCAN: LiteralString = """
SELECT c.thread, c.space, c.id, c.data, c.needs, t.name
FROM lg_checkpoints c JOIN lg_threads t ON t.thread = c.thread AND (t.ends IS NULL OR t.ends > now())
WHERE {0}
ORDER BY c.id DESC, c.thread DESC, c.space DESC LIMIT %(count)s
"""

REMOVE_WRITES: LiteralString = """
DELETE FROM lg_writes w USING unnest(%(spaces)s::bytea[], %(ids)s::bytea[]) AS gone (space, id)
WHERE w.thread = %(thread)s AND w.space = gone.space AND w.id = gone.id
"""

REMOVE_ROWS: LiteralString = """
DELETE FROM lg_checkpoints c USING unnest(%(spaces)s::bytea[], %(ids)s::bytea[]) AS gone (space, id)
WHERE c.thread = %(thread)s AND c.space = gone.space AND c.id = gone.id
"""

REMOVE_ORPHANS: LiteralString = """
DELETE FROM lg_writes w
WHERE thread = %(thread)s
AND NOT EXISTS (SELECT FROM lg_checkpoints c WHERE c.thread = w.thread AND c.space = w.space AND c.id = w.id)
AND id < (SELECT max(id) FROM lg_checkpoints c WHERE c.thread = w.thread AND c.space = w.space)
"""

REMOVE_ITEMS: LiteralString = (
    """
WITH RECURSIVE needing AS (
    SELECT needs FROM lg_checkpoints WHERE thread = %(thread)s
    UNION ALL SELECT needs FROM lg_writes WHERE thread = %(thread)s
), needed (name, needs) AS (
    SELECT i.name, i.needs FROM (SELECT DISTINCT """
    + NAMES.replace("{0}", "needing")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name
    UNION
    SELECT i.name, i.needs FROM (SELECT """
    + NAMES.replace("{0}", "needed")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name
)
DELETE FROM lg_items i WHERE thread = %(thread)s AND NOT EXISTS (SELECT FROM needed n WHERE n.name = i.name)
"""
)

BURY: LiteralString = """
INSERT INTO lg_threads (thread, name, epoch, horizon, ends)
VALUES (%(thread)s, '', 0, %(horizon)s, now() + %(seconds)s * interval '1 second')
ON CONFLICT (thread) DO UPDATE SET name = '', epoch = 0, horizon = EXCLUDED.horizon, ends = EXCLUDED.ends
"""

EMPTY_ROWS: LiteralString = "DELETE FROM lg_checkpoints WHERE thread = %(thread)s"
EMPTY_WRITES: LiteralString = "DELETE FROM lg_writes WHERE thread = %(thread)s"
EMPTY_ITEMS: LiteralString = "DELETE FROM lg_items WHERE thread = %(thread)s"

ONE_AT_A_TIME: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended(encode(%(thread)s, 'hex'), 0))"
"""For fenced puts on one thread, which may not be there yet."""

_EXPIRED: LiteralString = """
WITH gone AS (
    DELETE FROM lg_threads WHERE thread IN ({0}) AND ends <= now() RETURNING thread
), checkpoints AS (
    DELETE FROM lg_checkpoints USING gone WHERE lg_checkpoints.thread = gone.thread
), items AS (
    DELETE FROM lg_items USING gone WHERE lg_items.thread = gone.thread
), writes AS (
    DELETE FROM lg_writes USING gone WHERE lg_writes.thread = gone.thread
)
SELECT count(*) FROM gone
"""

EXPIRE = _EXPIRED.replace("{0}", "%(thread)s")

SWEEP = _EXPIRED.replace(
    "{0}", "SELECT thread FROM lg_threads WHERE ends <= now() ORDER BY ends LIMIT 100 FOR UPDATE SKIP LOCKED"
)
