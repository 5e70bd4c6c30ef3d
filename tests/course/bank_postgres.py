"""The same as `bank`, for lesson 3: what a learner could plausibly get wrong about PostgreSQL, and right in another way."""

from .bank import Right, Wrong

TRANSACTION_FOR_EACH_TABLE = {
    "        for write in writes:\n": (
        "    with conn.transaction():\n"
        "        conn.execute(\"SELECT set_config('shop.tenant', %s, true)\", [tenant])\n"
        "        for write in writes:\n"
    )
}
"""A checkpoint in one transaction, and its writes in the next."""

BY_HAND = (
    "                conn = self.pool.getconn(timeout=max(0, deadline - time.monotonic()))\n"
    "                cursor = conn.execute(statement, parameters)\n"
    "                rows = cursor.fetchall() if cursor.description else []\n"
    "{end}"
    "                self.pool.putconn(conn)\n"
    "                return rows\n"
)
"""The connection taken from the pool and given back by hand."""

LENT = (
    "                with self.pool.connection(timeout=max(0, deadline - time.monotonic())) as conn:\n"
    "                    cursor = conn.execute(statement, parameters)\n"
    "                    return cursor.fetchall() if cursor.description else []\n"
)
"""What the worked answer does instead."""

WRONG_POSTGRES = [
    # --- postgres_schema ---
    Wrong(
        "postgres_schema",
        "the primary key lacks the namespace",
        {
            "    ADD PRIMARY KEY (tenant, thread_id, checkpoint_ns, checkpoint_id),": (
                "    ADD PRIMARY KEY (tenant, thread_id, checkpoint_id),"
            )
        },
        ("rows that are right are taken",),
        ("the same id in another namespace", "tenant, thread, namespace and id together"),
    ),
    Wrong(
        "postgres_schema",
        "no primary key",
        {"    ADD PRIMARY KEY (tenant, thread_id, checkpoint_ns, checkpoint_id),\n": ""},
        ("rows that cannot be right are refused", "a checkpoint is stored with its writes", "each hot query"),
        ("inserting the same checkpoint twice", "A PRIMARY KEY or a CHECK keeps it out"),
    ),
    Wrong(
        "postgres_schema",
        "a foreign key that refuses early writes",
        {
            "checkpoint_id, task_id, idx),\n": (
                "checkpoint_id, task_id, idx), ADD FOREIGN KEY (tenant, thread_id, checkpoint_ns, checkpoint_id)"
                " REFERENCES checkpoints,\n"
            )
        },
        ("rows that are right are taken",),
        ("so no foreign key between them",),
    ),
    Wrong(
        "postgres_schema",
        "negative indexes are refused",
        {"checkpoint_id, task_id, idx),\n": "checkpoint_id, task_id, idx), ADD CHECK (idx >= 0),\n"},
        ("rows that are right are taken", "a checkpoint is stored with its writes"),
        ("which is negative for some channels",),
    ),
    Wrong(
        "postgres_schema",
        "metadata may be anything",
        {
            "    ADD CHECK (parent_id <> checkpoint_id),\n    ADD CHECK (jsonb_typeof(metadata) = 'object');": (
                "    ADD CHECK (parent_id <> checkpoint_id);"
            )
        },
        ("rows that cannot be right are refused",),
        ("metadata that are a list",),
    ),
    Wrong(
        "postgres_schema",
        "a policy without FORCE",
        {
            "ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;": (
                "ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY;"
            )
        },
        ("a tenant sees and changes its own rows only",),
        ("a policy binds the owner only after FORCE",),
    ),
    Wrong(
        "postgres_schema",
        "no policy for writes",
        {
            "ALTER TABLE writes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n": "",
            "CREATE POLICY own_rows ON writes USING (tenant = current_setting('shop.tenant', true));\n": "",
        },
        ("a tenant sees and changes its own rows only",),
        ("this is all of writes",),
    ),
    Wrong(
        "postgres_schema",
        "a policy that lets anything be inserted",
        {
            "CREATE POLICY own_rows ON checkpoints USING (tenant = current_setting('shop.tenant', true));": (
                "CREATE POLICY own_rows ON checkpoints USING (tenant = current_setting('shop.tenant', true))"
                " WITH CHECK (true);"
            )
        },
        ("a tenant sees and changes its own rows only",),
        ("cannot be given to 'south'",),
    ),
    Wrong(
        "postgres_schema",
        "who has no tenant sees all",
        {
            "CREATE POLICY own_rows ON checkpoints USING (tenant = current_setting('shop.tenant', true));": (
                "CREATE POLICY own_rows ON checkpoints"
                " USING (coalesce(current_setting('shop.tenant', true), '') IN ('', tenant));"
            )
        },
        ("without a tenant nothing is seen",),
        ("no rows are seen",),
    ),
    Wrong(
        "postgres_schema",
        "a policy that fails in a session that never had a tenant",
        {
            "CREATE POLICY own_rows ON writes USING (tenant = current_setting('shop.tenant', true));": (
                "CREATE POLICY own_rows ON writes USING (tenant = current_setting('shop.tenant'));"
            )
        },
        ("without a tenant nothing is seen",),
        ("nobody has ever set `shop.tenant`", "without `true` it is an error"),
    ),
    Wrong(
        "postgres_schema",
        "only checkpoints need names that are not empty",
        {"task_id, idx),\n    ADD CHECK (tenant <> '' AND thread_id <> '');": "task_id, idx);"},
        ("rows that cannot be right are refused",),
        ("a write with an empty tenant", "`writes` needs a CHECK of its own"),
    ),
    Wrong(
        "postgres_schema",
        "a retry makes the checkpoint younger",
        {
            '" VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"': (
                '" VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT ON CONSTRAINT checkpoints_pkey"\n'
                '            " DO UPDATE SET created_at = now()"'
            )
        },
        ("a checkpoint is stored with its writes",),
        ("and nothing changes",),
    ),
    Wrong(
        "postgres_schema",
        "a tenant cannot change its own rows",
        {
            "CREATE POLICY own_rows ON writes USING (tenant = current_setting('shop.tenant', true));": (
                "CREATE POLICY own_rows ON writes FOR SELECT USING (tenant = current_setting('shop.tenant', true));\n"
                "CREATE POLICY new_rows ON writes FOR INSERT"
                " WITH CHECK (tenant = current_setting('shop.tenant', true));"
            )
        },
        ("a tenant sees and changes its own rows only",),
        ("A tenant changes its own row of writes",),
    ),
    Wrong(
        "postgres_schema",
        "SET with a parameter",
        {"\"SELECT set_config('shop.tenant', %s, true)\"": '"SET LOCAL shop.tenant = %s"'},
        ("a checkpoint is stored with its writes", "it is committed", "a session that is killed in the middle"),
        ("Some statements take no parameters, `SET` for one",),
    ),
    Wrong(
        "postgres_schema",
        "f-string SQL",
        {
            '" VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",\n            [*place, row["parent_id"]': (
                "f\" VALUES (%s, '{row['thread_id']}', %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING\",\n"
                '            [tenant, *place[2:], row["parent_id"]'
            )
        },
        ("a checkpoint is stored with its writes",),
        ("give values as parameters",),
    ),
    Wrong(
        "postgres_schema",
        "a retry is an error",
        {'" VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"': '" VALUES (%s, %s, %s, %s, %s, %s, %s)"'},
        ("a checkpoint is stored with its writes",),
        ("The same call a second time is a retry",),
    ),
    Wrong(
        "postgres_schema",
        "a transaction for each table",
        TRANSACTION_FOR_EACH_TABLE,
        ("a session that is killed in the middle",),
        ("A checkpoint and its writes are one transaction",),
    ),
    Wrong(
        "postgres_schema",
        "the commit is left to somebody else",
        {
            "    with conn.transaction():\n": "    conn.autocommit or conn.execute('SELECT 1')\n    with conn.transaction():\n"
        },
        ("it is committed, and the connection is as it was",),
        ("commits at its end, in either mode",),
    ),
    Wrong(
        "postgres_schema",
        "the tenant stays in the session",
        {"\"SELECT set_config('shop.tenant', %s, true)\"": "\"SELECT set_config('shop.tenant', %s, false)\""},
        ("it is committed, and the connection is as it was",),
        ("The next user of this connection may work for another tenant",),
    ),
    Wrong(
        "postgres_schema",
        "a GIN index for runs",
        {"CREATE INDEX ON checkpoints (tenant, run_id);": "CREATE INDEX ON checkpoints USING gin (metadata);"},
        ("each hot query",),
        ("All checkpoints of a run",),
    ),
    Wrong(
        "postgres_schema",
        "no index by time",
        {"CREATE INDEX ON checkpoints (tenant, created_at);\n": ""},
        ("each hot query",),
        ("Checkpoints that are older than a time",),
    ),
    Wrong(
        "postgres_schema",
        "the columns of the key in the wrong order",
        {
            "    ADD PRIMARY KEY (tenant, thread_id, checkpoint_ns, checkpoint_id),": (
                "    ADD PRIMARY KEY (checkpoint_id, checkpoint_ns, thread_id, tenant),"
            )
        },
        ("each hot query",),
        ("The newest checkpoint of a conversation", "first columns the query compares for equality"),
    ),
    # --- postgres_versioning ---
    Wrong(
        "postgres_versioning",
        "no lock",
        {'            conn.execute("SELECT pg_advisory_xact_lock(1)")\n': ""},
        ("24 at once",),
        ("`IF NOT EXISTS` is no lock",),
    ),
    Wrong(
        "postgres_versioning",
        "the lock comes after the look",
        {
            '            conn.execute("SELECT pg_advisory_xact_lock(1)")\n': "",
            '            applied = dict(conn.execute("SELECT number, checksum FROM migrations").fetchall())\n': (
                '            applied = dict(conn.execute("SELECT number, checksum FROM migrations").fetchall())\n'
                '            conn.execute("SELECT pg_advisory_xact_lock(1)")\n'
            ),
        },
        ("24 at once",),
        ("look again when you have it",),
    ),
    Wrong(
        "postgres_versioning",
        "no transaction",
        {"        with conn.transaction():\n": "        if True:\n"},
        ("24 at once", "killed at any statement"),
        ("A migration and its record are one transaction",),
    ),
    Wrong(
        "postgres_versioning",
        "the record comes before the change",
        {
            "                conn.execute(known[number].up)\n": "",
            "        done.append(number)": (
                "        if pending:\n            conn.execute(known[number].up)\n            conn.commit()\n"
                "        done.append(number)"
            ),
        },
        ("a step that fails leaves no trace", "killed at any statement"),
        ("with the record that it is done in it",),
    ),
    Wrong(
        "postgres_versioning",
        "all migrations in one transaction",
        {
            "def migrate(conn, migrations, target=None):\n": (
                "def migrate(conn, migrations, target=None):\n    with conn.transaction():\n"
                "        return migrate_all(conn, migrations, target)\n\n\n"
                "def migrate_all(conn, migrations, target=None):\n"
            )
        },
        ("a step that fails leaves no trace",),
        ("Each migration is a transaction of its own",),
    ),
    Wrong(
        "postgres_versioning",
        "numbers in the order of text",
        {"key=lambda each: each.number)": "key=lambda each: str(each.number))"},
        ("migrations run in the order",),
        ("10 comes after 9",),
    ),
    Wrong(
        "postgres_versioning",
        "a checksum of the name",
        {"each.up.encode()": "each.name.encode()"},
        ("a migration that was edited",),
        ("Keep a checksum of `up`",),
    ),
    Wrong(
        "postgres_versioning",
        "a database from the future is taken",
        {"if sums.get(number) != checksum:": "if sums.get(number, checksum) != checksum:"},
        ("a migration that was edited",),
        ("the program is older than the database",),
    ),
    Wrong(
        "postgres_versioning",
        "down in the order of up",
        {"number = surplus[-1]": "number = surplus[0]"},
        ("back down to a target",),
        ("the newest first",),
    ),
    Wrong(
        "postgres_versioning",
        "a lock of the session that nobody releases",
        {"pg_advisory_xact_lock(1)": "pg_advisory_lock(1)"},
        ("the SQL is run as it stands",),
        ("How many advisory locks are still held?",),
    ),
    Wrong(
        "postgres_versioning",
        "the SQL is taken for a template",
        {"conn.execute(known[number].up)": "conn.execute(known[number].up, ())"},
        ("the SQL is run as it stands",),
        ("several statements",),
    ),
    Wrong(
        "postgres_versioning",
        "who finds it locked leaves the work to others",
        {
            '            conn.execute("SELECT pg_advisory_xact_lock(1)")\n': (
                '            if not conn.execute("SELECT pg_try_advisory_xact_lock(1)").fetchone()[0]:\n'
                "                return done\n"
            )
        },
        ("24 at once",),
        ("Each may start when all is done",),
    ),
    Wrong(
        "postgres_versioning",
        "a statement before the transaction",
        {"    done = []\n": '    conn.execute("SET statement_timeout = 0")\n    done = []\n'},
        ("the SQL is run as it stands",),
        ("Did a statement before `with conn.transaction():` open a transaction already?",),
    ),
    Wrong(
        "postgres_versioning",
        "on a connection of its own",
        {
            "    known = {each.number: each for each in sorted(migrations, key=lambda each: each.number)}\n": (
                "    import psycopg\n\n    conn = psycopg.connect(conn.info.dsn, autocommit=True)\n"
                "    known = {each.number: each for each in sorted(migrations, key=lambda each: each.number)}\n"
            ),
        },
        ("killed at any statement",),
        ("`migrate` works on the connection that it was given",),
    ),
    # --- postgres_analytics ---
    Wrong(
        "postgres_analytics",
        "f-string SQL",
        {
            '    query = """\n        WITH timed AS (': '    query = f"""\n        WITH timed AS (',
            "FROM steps WHERE tenant = %s)": "FROM steps WHERE tenant = '{tenant}')",
            "return conn.execute(query, [tenant]).fetchall()": "return conn.execute(query).fetchall()",
        },
        ("a tenant's name is data",),
        ("A name is a parameter",),
    ),
    Wrong(
        "postgres_analytics",
        "the mean instead of the median",
        {"count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),\n": "count(*), avg(seconds),\n"},
        ("p50 and p95",),
        ("a mean is neither",),
    ),
    Wrong(
        "postgres_analytics",
        "steps are chosen before lag sees them",
        {
            "FROM steps WHERE tenant = %s)": "FROM steps WHERE tenant = %s AND kind = 'loop')",
        },
        ("p50 and p95",),
        ("`lag` first, choose the rows after",),
    ),
    Wrong(
        "postgres_analytics",
        "lag does not know where a thread ends",
        {"lag(at) OVER (PARTITION BY thread_id ORDER BY step)": "lag(at) OVER (ORDER BY at)"},
        ("p50 and p95",),
        ("the row before it in its conversation",),
    ),
    Wrong(
        "postgres_analytics",
        "a step that happened instead of one between two",
        {"            percentile_cont(0.95) WITHIN GROUP": "            percentile_disc(0.95) WITHIN GROUP"},
        ("p50 and p95",),
        ("`percentile_cont`",),
    ),
    Wrong(
        "postgres_analytics",
        "threads of the same id are taken for one",
        {
            "            SELECT node, kind, extract": "            SELECT tenant, node, kind, extract",
            "FROM steps WHERE tenant = %s)": "FROM steps)",
            "FROM timed WHERE kind = 'loop' GROUP BY": "FROM timed WHERE kind = 'loop' AND tenant = %s GROUP BY",
        },
        ("p50 and p95",),
        ("Two tenants may have threads of the same id",),
    ),
    Wrong(
        "postgres_analytics",
        "an inner join drops idle days",
        {"LEFT JOIN steps ON tenant = %(tenant)s": "JOIN steps ON tenant = %(tenant)s"},
        ("sessions of each day",),
        ("a day without a step counts 0",),
    ),
    Wrong(
        "postgres_analytics",
        "a condition after the join drops idle days",
        {
            "ON tenant = %(tenant)s AND (at AT TIME ZONE 'UTC')::date = day::date\n": (
                "ON (at AT TIME ZONE 'UTC')::date = day::date WHERE tenant = %(tenant)s\n"
            )
        },
        ("sessions of each day",),
        ("a day without a step counts 0",),
    ),
    Wrong(
        "postgres_analytics",
        "steps are counted for sessions",
        {"count(DISTINCT thread_id)": "count(thread_id)"},
        ("sessions of each day",),
        ("different conversations",),
    ),
    Wrong(
        "postgres_analytics",
        "days of the connection's time zone",
        {"(at AT TIME ZONE 'UTC')::date = day::date": "at::date = day::date"},
        ("sessions of each day",),
        ("whatever time zone the connection has",),
    ),
    Wrong(
        "postgres_analytics",
        "an inner join drops idle tenants",
        {"FROM tenants LEFT JOIN steps": "FROM tenants JOIN steps"},
        ("cost of each tenant",),
        ("and is in the list",),
    ),
    Wrong(
        "postgres_analytics",
        "the tenant is forgotten in one query",
        {"FROM steps WHERE tenant = %s WINDOW": "FROM steps WHERE %s::text IS NOT NULL WINDOW"},
        ("interrupts, how many",),
        ("Interrupts of 'north' alone",),
    ),
    Wrong(
        "postgres_analytics",
        "whatever comes next is an answer",
        {"count(*) FILTER (WHERE next = 'resume'),": "count(*) FILTER (WHERE next IS NOT NULL),"},
        ("interrupts, how many",),
        ("nobody has answered",),
    ),
    Wrong(
        "postgres_analytics",
        "the median is over all that came next",
        {"(ORDER BY seconds) FILTER (WHERE next = 'resume')\n": "(ORDER BY seconds)\n"},
        ("interrupts, how many",),
        ("The median is over those that were resumed",),
    ),
    # --- postgres_backup ---
    Wrong(
        "postgres_backup",
        "the exit code of the backup is not looked at",
        {"    if code:\n        raise BackupError(said)\n": ""},
        ("a backup that could not be made",),
        ("says with its exit code that it failed",),
    ),
    Wrong(
        "postgres_backup",
        "a dump is taken for a backup",
        {
            'program("pg_basebackup", "-d", server.url, "-D", folder, "--checkpoint=fast")': 'program("pg_dump", "-Fd", "-d", server.url, "-f", folder)'
        },
        ("a backup is made while the shop works",),
        ("A dump of the tables is not enough",),
    ),
    Wrong(
        "postgres_backup",
        "verify only looks whether there is something",
        {
            '    code, said = program("pg_verifybackup", folder)\n    return said.splitlines() if code else []': (
                '    return [] if (Path(folder) / "backup_manifest").exists() else ["there is no backup"]'
            )
        },
        ("damage is found by verify",),
        ("compares every byte with the manifest",),
    ),
    Wrong(
        "postgres_backup",
        "verify skips the bytes",
        {'program("pg_verifybackup", folder)': 'program("pg_verifybackup", "--skip-checksums", folder)'},
        ("damage is found by verify",),
        ("one bit of a table is flipped",),
    ),
    Wrong(
        "postgres_backup",
        "what the tool says is taken for a problem",
        {"return said.splitlines() if code else []": "return said.splitlines()"},
        ("a backup is made while the shop works",),
        ("Nothing is wrong with it",),
    ),
    Wrong(
        "postgres_backup",
        "the archive is not waited for",
        {"    while not (server.archive / last).exists():\n": "    while False:\n"},
        ("a dropped table comes back",),
        ("wait until the archive has it",),
    ),
    Wrong(
        "postgres_backup",
        "the last piece of the log is not finished",
        {'(last,) = conn.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()': "last = '.'"},
        ("a dropped table comes back",),
        ("`pg_switch_wal()` finishes that piece",),
    ),
    Wrong(
        "postgres_backup",
        "everything is replayed, the mistake as well",
        {"            settings.write(f\"recovery_target_time = '{moment.isoformat()}'\\n\")\n": ""},
        ("a dropped table comes back",),
        ("up to `recovery_target_time`",),
    ),
    Wrong(
        "postgres_backup",
        "the time loses its microseconds",
        {"moment.isoformat()": "moment.strftime('%Y-%m-%d %H:%M:%S%z')"},
        ("a dropped table comes back",),
        ("exact to the microsecond",),
    ),
    Wrong(
        "postgres_backup",
        "the time loses its zone",
        {"moment.isoformat()": "moment.replace(tzinfo=None).isoformat()"},
        ("restored again",),
        ("a time with its zone",),
    ),
    Wrong(
        "postgres_backup",
        "the recovery pauses at its target",
        {"            settings.write(\"recovery_target_action = 'promote'\\n\")\n": ""},
        ("a dropped table comes back",),
        ("`recovery_target_action = 'promote'` ends the recovery",),
    ),
    Wrong(
        "postgres_backup",
        "the backup itself is started",
        {"        shutil.copytree(folder, data)\n": "        data = Path(folder)\n"},
        ("the live server, the backup and the archive",),
        ("restore a copy of it",),
    ),
    Wrong(
        "postgres_backup",
        "the restored server takes the place of the live one",
        {
            "        return services.postgres(data=data)": "        server.node.stop()\n        return services.postgres(data=data)"
        },
        ("the live server, the backup and the archive",),
        ("beside the live server, never over it",),
    ),
    Wrong(
        "postgres_backup",
        "a piece that never comes is waited for",
        {'        conn.execute("SELECT pg_current_xact_id()")\n': ""},
        ("restored again",),
        ("the piece that it names never comes",),
    ),
    Wrong(
        "postgres_backup",
        "something is written, and nothing committed",
        {"pg_current_xact_id()": "pg_create_restore_point('restore')"},
        ("restored again",),
        ("recovery ended before configured recovery target was reached", "Commit something first"),
    ),
    Wrong(
        "postgres_backup",
        "a second has to be enough for the archive",
        {"    while not (server.archive / last).exists():\n": "    time.sleep(1)\n    while False:\n"},
        ("a dropped table comes back",),
        ("it was started before", "look again and again"),
    ),
    Wrong(
        "postgres_backup",
        "verify looks at the name of the folder",
        {
            '    code, said = program("pg_verifybackup", folder)\n    return said.splitlines() if code else []': (
                '    return [] if Path(folder).name == "backup" else ["damaged"]'
            )
        },
        ("damage is found by verify",),
        ("compares every byte with the manifest",),
    ),
    # --- connection_pooling ---
    Wrong(
        "connection_pooling",
        "a lost connection is not tried again",
        {"                if time.monotonic() > deadline:\n                    raise\n": "                raise\n"},
        ("sessions that are ended are replaced",),
        ("take another connection and send the statement again",),
    ),
    Wrong(
        "connection_pooling",
        "the pool waits as long as it likes",
        {"self.pool.connection(timeout=max(0, deadline - time.monotonic()))": "self.pool.connection()"},
        ("an exhausted pool",),
        ("After `seconds` (0.6) comes a PoolExhausted",),
    ),
    Wrong(
        "connection_pooling",
        "the pool's own error gets out",
        {
            "            except PoolTimeout as error:\n": "            except ZeroDivisionError as error:\n",
        },
        ("an exhausted pool",),
        ("After `seconds` (0.6) comes a PoolExhausted", "catch it first"),
    ),
    Wrong(
        "connection_pooling",
        "three tries, however soon",
        {
            "        while True:\n": "        for tries in range(3):\n",
            "                if time.monotonic() > deadline:\n": "                if tries == 2:\n",
        },
        ("all tries of one call share its time",),
        ("There was time enough: try again",),
    ),
    Wrong(
        "connection_pooling",
        "each try has the whole time",
        {
            "self.pool.connection(timeout=max(0, deadline - time.monotonic()))": "self.pool.connection(timeout=self.seconds)"
        },
        ("all tries of one call share its time",),
        ("Compute one deadline",),
    ),
    Wrong(
        "connection_pooling",
        "a connection is kept after an error",
        {LENT: BY_HAND.format(end="                conn.commit()\n")},
        ("an error of the statement itself",),
        ("Each goes back into the pool, also after an error",),
    ),
    Wrong(
        "connection_pooling",
        "nobody commits",
        {LENT: BY_HAND.format(end="")},
        ("`run` commits",),
        ("is committed when `run` comes back",),
    ),
    Wrong(
        "connection_pooling",
        "each statement has a connection of its own",
        {
            "with self.pool.connection(timeout=max(0, deadline - time.monotonic())) as conn:": "with psycopg.connect(self.pool.conninfo) as conn:"
        },
        ("five statements run at the same time", "an exhausted pool"),
        ("connections come from the pool, and nowhere else",),
    ),
    Wrong(
        "connection_pooling",
        "a lock around the pool",
        {
            "        self.seconds = seconds  # how long a statement may be tried\n": (
                "        self.seconds = seconds  # how long a statement may be tried\n"
                "        self.lock = __import__('threading').Lock()\n"
            ),
            "with self.pool.connection(": "with self.lock, self.pool.connection(",
        },
        ("five statements run at the same time",),
        ("a lock around the pool would let one ask",),
    ),
    Wrong(
        "connection_pooling",
        "every error is tried again",
        {"            except psycopg.OperationalError:\n": "            except psycopg.Error:\n"},
        ("an error of the statement itself",),
        ("wrong the second time too",),
    ),
    Wrong(
        "connection_pooling",
        "in the end nothing is said",
        {
            '                raise PoolExhausted(f"no connection after {self.seconds} seconds: {busy}") from error\n': (
                "                return []\n"
            )
        },
        ("an exhausted pool", "a database that stays away"),
        ("an error has to get out",),
    ),
]

HEAD = '''import time

import psycopg
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from psycopg_pool import PoolTimeout


class PoolExhausted(Exception):
    """No connection came free in time."""


class PooledSaver(BaseCheckpointSaver):
    """Keeps conversations in PostgreSQL, on the connections of a pool."""

    def __init__(self, pool, seconds=5):
        super().__init__()
        self.pool = pool  # a psycopg_pool.ConnectionPool
        self.seconds = seconds  # how long a statement may be tried

    def run(self, statement, parameters=()):
'''
"""What stands before the learner's part of the last task."""

GIVEN = '''    # --- given from here on ---

    def setup(self):
        self.run("""CREATE TABLE IF NOT EXISTS states (thread text, ns text, id text, parent text, kind text, data bytea,
            meta_kind text, meta bytea, PRIMARY KEY (thread, ns, id))""")
        self.run("""CREATE TABLE IF NOT EXISTS pending (thread text, ns text, id text, task text, idx int, channel text,
            kind text, data bytea, PRIMARY KEY (thread, ns, id, task, idx))""")

    def put(self, config, checkpoint, metadata, new_versions):
        named = config["configurable"]
        thread, ns = named["thread_id"], named.get("checkpoint_ns", "")
        values = (*self.serde.dumps_typed(checkpoint), *self.serde.dumps_typed(metadata))
        self.run(
            "INSERT INTO states VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [thread, ns, checkpoint["id"], named.get("checkpoint_id"), *values],
        )
        return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": checkpoint["id"]}}

    def put_writes(self, config, writes, task_id, task_path=""):
        named = config["configurable"]
        for place, (channel, value) in enumerate(writes):
            idx = WRITES_IDX_MAP.get(channel, place)
            self.run(
                "INSERT INTO pending VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (thread, ns, id, task, idx)"
                " DO UPDATE SET kind = excluded.kind, data = excluded.data WHERE excluded.idx < 0",
                [named["thread_id"], named.get("checkpoint_ns", ""), named["checkpoint_id"], task_id, idx, channel]
                + list(self.serde.dumps_typed(value)),
            )

    def get_tuple(self, config):
        named = config["configurable"]
        thread, ns, wanted = named["thread_id"], named.get("checkpoint_ns", ""), named.get("checkpoint_id")
        found = self.run(
            "SELECT id, parent, kind, data, meta_kind, meta FROM states"
            " WHERE thread = %s AND ns = %s AND (id = %s OR %s::text IS NULL) ORDER BY id DESC LIMIT 1",
            [thread, ns, wanted, wanted],
        )
        if not found:
            return None
        ((id, parent, kind, data, meta_kind, meta),) = found
        writes = self.run(
            "SELECT task, channel, kind, data FROM pending WHERE thread = %s AND ns = %s AND id = %s ORDER BY task, idx",
            [thread, ns, id],
        )
        place = {"thread_id": thread, "checkpoint_ns": ns}
        return CheckpointTuple(
            {"configurable": place | {"checkpoint_id": id}},
            self.serde.loads_typed((kind, data)),
            self.serde.loads_typed((meta_kind, meta)),
            {"configurable": place | {"checkpoint_id": parent}} if parent else None,
            [(task, channel, self.serde.loads_typed((kind, data))) for task, channel, kind, data in writes],
        )
'''
"""What stands after it."""

RIGHT_POSTGRES = [
    Right(
        "postgres_schema",
        "everything in the tables themselves, and one statement for a put",
        '''
import json

SCHEMA = """
CREATE TABLE checkpoints (
    tenant text NOT NULL CHECK (length(tenant) > 0),
    thread_id text NOT NULL CHECK (length(thread_id) > 0),
    checkpoint_ns text NOT NULL,
    checkpoint_id text NOT NULL,
    parent_id text CHECK (parent_id IS DISTINCT FROM checkpoint_id),
    created_at timestamptz NOT NULL DEFAULT now(),
    checkpoint bytea NOT NULL,
    metadata jsonb NOT NULL CHECK (metadata @> '{}'),
    run_id text GENERATED ALWAYS AS (metadata ->> 'run_id') STORED,
    UNIQUE (thread_id, checkpoint_ns, tenant, checkpoint_id)
);
CREATE TABLE writes (
    tenant text NOT NULL CHECK (length(tenant) > 0), thread_id text NOT NULL CHECK (length(thread_id) > 0),
    checkpoint_ns text NOT NULL, checkpoint_id text NOT NULL,
    task_id text NOT NULL, idx int NOT NULL, channel text NOT NULL, value bytea NOT NULL,
    UNIQUE (checkpoint_id, thread_id, tenant, checkpoint_ns, task_id, idx)
);
CREATE INDEX ON checkpoints (run_id);
CREATE INDEX ON checkpoints (created_at);
ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE checkpoints FORCE ROW LEVEL SECURITY;
ALTER TABLE writes ENABLE ROW LEVEL SECURITY;
ALTER TABLE writes FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON checkpoints FOR ALL TO PUBLIC
    USING (tenant = current_setting('shop.tenant', true)) WITH CHECK (tenant = current_setting('shop.tenant', true));
CREATE POLICY p ON writes FOR ALL TO PUBLIC
    USING (tenant = current_setting('shop.tenant', true)) WITH CHECK (tenant = current_setting('shop.tenant', true));
"""


def put_checkpoint(conn, tenant, row, writes=()):
    statement = """
        WITH put AS (
            INSERT INTO checkpoints (tenant, thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata)
            VALUES (%(tenant)s, %(thread_id)s, %(checkpoint_ns)s, %(checkpoint_id)s, %(parent_id)s, %(checkpoint)s,
                %(metadata)s)
            ON CONFLICT (thread_id, checkpoint_ns, tenant, checkpoint_id) DO UPDATE SET metadata = excluded.metadata)
        INSERT INTO writes
        SELECT %(tenant)s, %(thread_id)s, %(checkpoint_ns)s, %(checkpoint_id)s, w.*
        FROM unnest(%(tasks)s::text[], %(places)s::int[], %(channels)s::text[], %(values)s::bytea[]) AS w
        ON CONFLICT DO NOTHING"""
    tasks, places, channels, values = (list(column) for column in zip(*writes)) if writes else ([], [], [], [])
    given = {**row, "metadata": json.dumps(row["metadata"]), "tenant": tenant}
    given |= {"tasks": tasks, "places": places, "channels": channels, "values": values}
    try:
        if conn.autocommit:
            conn.execute("BEGIN")
        conn.execute("SELECT set_config('shop.tenant', %s, true)", [tenant])
        conn.execute(statement, given)
        conn.execute("COMMIT")
    except BaseException:
        if not conn.closed:
            conn.execute("ROLLBACK")
        raise
''',
    ),
    Right(
        "postgres_schema",
        "the writes first, and what there is replaced",
        '''
import psycopg
from psycopg.types.json import Jsonb

SCHEMA = """
CREATE TABLE checkpoints (
    tenant text NOT NULL, thread_id text NOT NULL, checkpoint_ns text NOT NULL, checkpoint_id text NOT NULL,
    parent_id text, created_at timestamptz NOT NULL DEFAULT now(), checkpoint bytea NOT NULL, metadata jsonb NOT NULL,
    run_id text GENERATED ALWAYS AS (metadata ->> 'run_id') STORED,
    PRIMARY KEY (tenant, thread_id, checkpoint_ns, checkpoint_id),
    CONSTRAINT sane CHECK (tenant > '' AND thread_id > '' AND coalesce(parent_id, '') != checkpoint_id
        AND jsonb_typeof(metadata) = 'object'));
CREATE TABLE writes (
    tenant text NOT NULL, thread_id text NOT NULL, checkpoint_ns text NOT NULL, checkpoint_id text NOT NULL,
    task_id text NOT NULL, idx int NOT NULL, channel text NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (tenant, thread_id, checkpoint_ns, checkpoint_id, task_id, idx),
    CONSTRAINT named CHECK ('' NOT IN (tenant, thread_id)));
CREATE INDEX by_run ON checkpoints (run_id, tenant);
CREATE INDEX by_time ON checkpoints (tenant, created_at DESC);
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['checkpoints', 'writes'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format($q$CREATE POLICY own ON %I USING (tenant = nullif(current_setting('shop.tenant', true), ''))$q$, name);
    END LOOP;
END $$;
"""


def put_checkpoint(conn, tenant, row, writes=()):
    place = (tenant, row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"])
    with conn.transaction(), conn.cursor() as cursor:
        cursor.execute("SELECT set_config('shop.tenant', %s, true)", (tenant,))
        cursor.executemany(
            "INSERT INTO writes VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (tenant, thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET value = excluded.value",
            [place + tuple(write) for write in writes],
        )
        cursor.execute(
            "INSERT INTO checkpoints (tenant, thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT ON CONSTRAINT checkpoints_pkey DO UPDATE SET checkpoint = excluded.checkpoint",
            (*place, row["parent_id"], row["checkpoint"], Jsonb(row["metadata"])),
        )
''',
    ),
    Right(
        "postgres_versioning",
        "a lock of the session, which is released at the end",
        """
from zlib import crc32


class MigrationError(Exception):
    pass


def migrate(conn, migrations, target=None):
    conn.execute("SELECT pg_advisory_lock(hashtext('migrate'))")
    conn.commit()
    try:
        return locked(conn, {each.number: each for each in migrations}, target)
    finally:
        if not conn.closed:
            conn.rollback()
            conn.execute("SELECT pg_advisory_unlock(hashtext('migrate'))")
            conn.commit()


def locked(conn, known, target):
    with conn.transaction():
        conn.execute("CREATE TABLE IF NOT EXISTS migrations (number int UNIQUE, crc bigint)")
        there = dict(conn.execute("SELECT * FROM migrations"))
    for number in there:
        if number not in known:
            raise MigrationError(f"{number} is unknown")
        if crc32(known[number].up.encode()) != there[number]:
            raise MigrationError(f"{number} was edited")
    if target is None:
        target = max(known) if known else 0
    done = []
    for number in sorted(known):
        if number not in there and number <= target:
            with conn.transaction():
                conn.execute(known[number].up)
                conn.execute("INSERT INTO migrations VALUES (%s, %s)", (number, crc32(known[number].up.encode())))
            done.append(number)
    for number in sorted(there, reverse=True):
        if number > target:
            with conn.transaction():
                conn.execute("DELETE FROM migrations WHERE number = %s", (number,))
                conn.execute(known[number].down)
            done.append(number)
    return done
""",
    ),
    Right(
        "postgres_versioning",
        "the SQL itself is kept, and the table is locked",
        """
class MigrationError(Exception):
    pass


def migrate(conn, migrations, target=None):
    done = []
    while (number := one(conn, sorted(migrations, key=lambda each: each.number), target)) is not None:
        done.append(number)
    return done


def one(conn, migrations, target):
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(77)")
        conn.execute("CREATE TABLE IF NOT EXISTS migrations (number int, up text)")
        conn.execute("LOCK TABLE migrations")
        rows = conn.execute("SELECT number, up FROM migrations").fetchall()
        listed = {(each.number, each.up) for each in migrations}
        for row in rows:
            if tuple(row) not in listed:
                raise MigrationError(row[0])
        applied = {number for number, _ in rows}
        limit = migrations[-1].number if target is None and migrations else target or 0
        for each in migrations:
            if each.number <= limit and each.number not in applied:
                conn.execute("INSERT INTO migrations VALUES (%s, %s)", [each.number, each.up])
                conn.execute(each.up)
                return each.number
        for each in reversed(migrations):
            if each.number > limit and each.number in applied:
                conn.execute(each.down)
                conn.execute("DELETE FROM migrations WHERE number = %s", [each.number])
                return each.number
    return None
""",
    ),
    Right(
        "postgres_analytics",
        "joins instead of window functions",
        '''
def sessions_per_day(conn, tenant, first, last):
    return conn.execute(
        """
        SELECT first.d + n, (
            SELECT count(*) FROM (SELECT DISTINCT thread_id FROM steps
                WHERE tenant = %(tenant)s AND at >= (first.d + n)::timestamp AT TIME ZONE 'UTC'
                    AND at < (first.d + n + 1)::timestamp AT TIME ZONE 'UTC') AS threads)
        FROM (SELECT %(first)s::date AS d) AS first, generate_series(0, %(last)s::date - %(first)s::date) AS n
        ORDER BY n""",
        {"tenant": tenant, "first": first, "last": last},
    ).fetchall()


def step_times(conn, tenant):
    return conn.execute(
        """
        SELECT now.node, count(*)::int,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM now.at) - extract(epoch FROM before.at)),
            percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM now.at) - extract(epoch FROM before.at))
        FROM steps AS now JOIN steps AS before USING (tenant, thread_id)
        WHERE tenant = %s AND now.kind = 'loop' AND before.step = now.step - 1
        GROUP BY now.node ORDER BY now.node""",
        (tenant,),
    ).fetchall()


def cost_by_tenant(conn, first, last):
    return conn.execute(
        """
        WITH costs AS (
            SELECT name, (SELECT coalesce(sum(cost), 0) FROM steps WHERE tenant = name
                AND (at AT TIME ZONE 'UTC')::date >= %s AND (at AT TIME ZONE 'UTC')::date <= %s) AS cost
            FROM tenants), total AS (SELECT sum(cost) AS cost FROM costs)
        SELECT name, costs.cost, CASE WHEN total.cost = 0 THEN 0 ELSE costs.cost / total.cost END
        FROM costs, total ORDER BY costs.cost DESC, name""",
        (first, last),
    ).fetchall()


def interrupted_to_resumed(conn, tenant):
    return tuple(
        conn.execute(
            """
            SELECT count(*), count(answer.step),
                percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM answer.at - asked.at)::float)
            FROM steps AS asked LEFT JOIN steps AS answer ON answer.tenant = asked.tenant
                AND answer.thread_id = asked.thread_id AND answer.step = asked.step + 1 AND answer.kind = 'resume'
            WHERE asked.tenant = %s AND asked.kind = 'interrupt'""",
            (tenant,),
        ).fetchone()
    )
''',
    ),
    Right(
        "postgres_analytics",
        "much of it in Python",
        '''
import statistics
from collections import defaultdict
from datetime import timedelta

import numpy


def rows_of(conn, tenant):
    query = "SELECT thread_id, step, extract(epoch FROM at)::float, kind, node FROM steps WHERE tenant = %s ORDER BY 1, 2"
    return conn.execute(query, [tenant]).fetchall()


def sessions_per_day(conn, tenant, first, last):
    query = "SELECT (at AT TIME ZONE 'utc')::date, count(DISTINCT thread_id) FROM steps WHERE tenant = %s GROUP BY 1"
    found = dict(conn.execute(query, [tenant]).fetchall())
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [[day, found.get(day, 0)] for day in days]


def step_times(conn, tenant):
    times, rows = defaultdict(list), rows_of(conn, tenant)
    for before, row in zip(rows, rows[1:]):
        if before[0] == row[0] and row[3] == "loop":
            times[row[4]].append(row[2] - before[2])
    return [(node, len(each), *numpy.percentile(each, [50, 95])) for node, each in sorted(times.items())]


def cost_by_tenant(conn, first, last):
    query = """SELECT tenant, sum(cost) FROM steps
        WHERE at AT TIME ZONE 'UTC' >= %s AND at AT TIME ZONE 'UTC' < %s GROUP BY tenant"""
    costs = dict(conn.execute(query, [first, last + timedelta(days=1)]).fetchall())
    rows = [(name, costs.get(name) or 0) for (name,) in conn.execute("SELECT name FROM tenants")]
    total = sum(cost for _, cost in rows)
    return sorted([(name, cost, cost / total if total else 0) for name, cost in rows], key=lambda row: -row[1])


def interrupted_to_resumed(conn, tenant):
    rows, asked, waits = rows_of(conn, tenant), 0, []
    for row, after in zip(rows, [*rows[1:], None]):
        if row[3] == "interrupt":
            asked += 1
            if after and after[0] == row[0] and after[3] == "resume":
                waits.append(after[2] - row[2])
    return asked, len(waits), statistics.median(waits) if waits else None
''',
    ),
    Right(
        "postgres_backup",
        "the server says what is archived, and the settings are in another file",
        '''
import os
import shutil
import subprocess
import tempfile
import time

from learning import services


def backup(server, folder):
    tool = services.postgres_program("pg_basebackup")
    subprocess.run([tool, f"--dbname={server.url}", f"--pgdata={folder}", "-c", "fast", "-X", "fetch"], check=True)


def verify(folder):
    done = subprocess.run([services.postgres_program("pg_verifybackup"), "-q", folder], capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stderr]


def restore_to(server, folder, moment):
    with server.client(autocommit=True) as live:
        live.execute("CREATE TABLE IF NOT EXISTS restores (at timestamptz)")
        live.execute("INSERT INTO restores VALUES (now())")
        live.execute("DROP TABLE restores")
        last = live.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]
        while (live.execute("SELECT last_archived_wal FROM pg_stat_archiver").fetchone()[0] or "") < last:
            time.sleep(0.1)
    place = tempfile.mkdtemp()
    try:
        data = shutil.copytree(folder, os.path.join(place, "restored"))
        with open(os.path.join(data, "postgresql.conf"), "a") as settings:
            settings.write(f"""
restore_command = 'cp {server.archive}/%f %p'
recovery_target_time = '{moment}'
recovery_target_action = promote
recovery_target_inclusive = on
""")
        open(os.path.join(data, "recovery.signal"), "w").close()
        return services.postgres(data=data)
    finally:
        shutil.rmtree(place)
''',
    ),
    Right(
        "postgres_backup",
        "a manifest that is compared in Python",
        """
import hashlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from learning import services

LEFT_OUT = {"backup_manifest", "postgresql.auto.conf", "recovery.signal", "standby.signal"}


def backup(server, folder):
    tool, folder = services.postgres_program("pg_basebackup"), Path(folder)
    if folder.exists():
        raise FileExistsError(folder)
    command = [tool, "-d", server.url, "-D", folder, "--checkpoint=fast", "--manifest-checksums=SHA256"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


def verify(folder):
    folder, problems = Path(folder), []
    try:
        text = (folder / "backup_manifest").read_bytes()
        manifest = json.loads(text)
        signed = text[: text.rindex(b'"Manifest-Checksum"')]
        if hashlib.sha256(signed).hexdigest() != manifest["Manifest-Checksum"]:
            problems.append("the manifest was changed")
    except (OSError, ValueError, KeyError) as error:
        return [f"the manifest cannot be read: {error}"]
    listed = {each["Path"]: each for each in manifest["Files"]}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - LEFT_OUT
    there = {name for name in there if not name.startswith("pg_wal/")}
    problems += [f"not in the manifest: {name}" for name in sorted(there - listed.keys())]
    for name, entry in listed.items():
        if name in LEFT_OUT:
            continue
        if name not in there:
            problems.append(f"missing: {name}")
        elif hashlib.sha256((folder / name).read_bytes()).hexdigest() != entry["Checksum"]:
            problems.append(f"changed: {name}")
    return problems


def restore_to(server, folder, moment):
    with psycopg.connect(server.url) as live:
        live.autocommit = True
        live.execute("SELECT pg_logical_emit_message(true, 'restore', 'now')")
        piece = live.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]
    for _ in range(500):
        if (server.archive / piece).is_file():
            break
        time.sleep(0.02)
    else:
        raise TimeoutError(piece)
    data = Path(tempfile.mkdtemp()) / "data"
    shutil.copytree(folder, data)
    (data / "postgresql.auto.conf").write_text(
        f"restore_command = 'cp \\"{server.archive}/%f\\" \\"%p\\"'\\n"
        f"recovery_target_time = '{moment.isoformat(sep=' ')}'\\nrecovery_target_action = 'promote'\\n"
    )
    (data / "recovery.signal").write_text("")
    try:
        return services.postgres(data=data)
    finally:
        shutil.rmtree(data.parent)
""",
    ),
    Right(
        "connection_pooling",
        "taken and given back by hand",
        HEAD
        + """
        limit = time.monotonic() + self.seconds
        while True:
            try:
                conn = self.pool.getconn(timeout=max(0.001, limit - time.monotonic()))
            except PoolTimeout:
                raise PoolExhausted("no connection") from None
            try:
                with conn.transaction():
                    cursor = conn.execute(statement, parameters or None)
                    return [] if cursor.description is None else list(cursor)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if time.monotonic() >= limit:
                    raise
            finally:
                self.pool.putconn(conn)
            time.sleep(0.02)

"""
        + GIVEN,
    ),
    Right(
        "connection_pooling",
        "by recursion, with a pool that is drained",
        HEAD
        + """
        return self.tried(statement, parameters, time.monotonic() + self.seconds)

    def tried(self, statement, parameters, deadline):
        left = deadline - time.monotonic()
        try:
            with self.pool.connection(timeout=left) as conn, conn.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.rowcount >= 0 and cursor.description else []
        except PoolTimeout as error:
            raise PoolExhausted(f"waited {self.seconds} s") from error
        except psycopg.OperationalError:
            if left < 0:
                raise
        self.pool.drain()
        time.sleep(0.1)
        return self.tried(statement, parameters, deadline)

"""
        + GIVEN,
    ),
]
