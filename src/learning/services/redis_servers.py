"""Redis, alone or with replicas, and Redis Cluster."""

import secrets
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.cluster import ClusterNode
from redis.cluster import RedisCluster as ClusterClient
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from .ports import LOOPBACK, free_ports
from .server import Node, Place, Server, wait_for

MASTERS = 3
"""The masters of a cluster. A majority of them has to agree before a replica takes over, so 3 is the least."""

ANSWER_SECONDS = 1
"""How long a node may take to tell its state."""

UNREACHABLE = (redis.ConnectionError, redis.TimeoutError)

SETTINGS: dict[str, str | int] = {
    "save": '""',
    "appendonly": "yes",  # a node that restarts has what it had, but for the last second
    "repl-diskless-sync-delay": 0,
}


class Redis(Server):
    """One Redis. Its first node is the primary, and the others are replicas of it."""

    title = "Redis"
    variable = "REDIS_URL"

    @property
    def replicas(self) -> list[Node]:
        """The nodes that copy the primary."""
        return self.nodes[1:]

    def client(self, **options: Any) -> redis.Redis:
        """A client of the primary; `options` are redis-py's."""
        return redis.Redis.from_url(self.url, **options)

    def node_client(self, node: Node, **options: Any) -> redis.Redis:
        """A client of one node."""
        return _client(node, self.url, **options)

    def fill_memory(self) -> None:
        """Have the primary's memory full, by a limit below what is in it: it refuses every write until `heal`."""
        _fill_memory(self.client())

    def heal(self) -> None:
        """See `Server`."""
        super().heal()
        _free_memory(self.client())

    def ready(self) -> bool:
        """Whether the primary answers, and every running replica is in step with it."""
        running = [node for node in self.replicas if node.running]
        try:
            links = [self.node_client(node).info("replication")["master_link_status"] for node in running]
            answers = self.client(socket_timeout=ANSWER_SECONDS, retry=None).ping()
            return answers and all(link == "up" for link in links)
        except (*UNREACHABLE, redis.BusyLoadingError):
            return False


class RedisCluster(Server):
    """A Redis Cluster: masters that share the keys out by slot, and replicas that take over from them.

    Its URL is `redis+cluster://:PASSWORD@HOST:PORT,HOST:PORT,…`: any of the nodes, of which one has to answer.
    """

    title = "Redis Cluster"
    variable = "REDIS_CLUSTER_URL"

    def client(self, **options: Any) -> ClusterClient:
        """A client of the cluster; `options` are redis-py's."""
        url = urlsplit(self.url)
        places = [place.rpartition(":") for place in url.netloc.rpartition("@")[2].split(",")]
        nodes = [ClusterNode(host, int(port)) for host, _, port in places]
        return ClusterClient(startup_nodes=nodes, **_credentials(self.url), **options)

    def node_client(self, node: Node, **options: Any) -> redis.Redis:
        """A client of one node, that follows no redirection."""
        return _client(node, self.url, **options)

    @property
    def masters(self) -> list[Node]:
        """The nodes that answer, and are masters now."""
        return self._with_role("master")

    @property
    def replicas(self) -> list[Node]:
        """The nodes that answer, and are replicas now."""
        return self._with_role("slave")

    def master_of(self, key: str) -> Node:
        """The master that holds a key."""
        with self.client() as client:
            port = client.get_node_from_key(key).port
        return next(node for node in self.nodes if node.port == port)

    def replicas_of(self, master: Node) -> list[Node]:
        """The nodes that answer, and copy this master."""
        return [node for node in self.replicas if self._copied_by(node) == master.port]

    def cut_off(self, replica: Node) -> None:
        """Pause a replica, and cut its connection: what its master stores from now on never reaches it."""
        master = self._copied_by(replica)
        replica.pause()
        for node in self.nodes:
            if node.port == master:
                self.node_client(node).client_kill_filter(_type="replica")

    def _copied_by(self, replica: Node) -> int | None:
        return self.node_client(replica).info("replication").get("master_port")

    def fill_memory(self, node: Node) -> None:
        """Have one master's memory full, by a limit below what is in it: it refuses every write until `heal`."""
        _fill_memory(self.node_client(node))

    def heal(self) -> None:
        """See `Server`."""
        for node in self.nodes:
            node.resume()
            node.start()
        clients = [self.node_client(node) for node in self.nodes]
        wait_for(lambda: all(_answers(client) for client in clients), "all nodes answer", starting=self.nodes)
        _reunite(clients, [(node.peer_address, node.port) for node in self.nodes])
        super().heal()
        for client in clients:
            _free_memory(client)

    def ready(self) -> bool:
        """Whether all slots are served, and all running nodes agree on who is who and are in step."""
        try:
            if not self.nodes:
                return bool(self.client(socket_timeout=ANSWER_SECONDS).ping())
            views = [_view(self.node_client(node)) for node in self.nodes if node.running]
        except (redis.RedisError, redis.RedisClusterException):
            return False
        return len(set(views)) == 1 and views[0] is not None

    def _with_role(self, role: str) -> list[Node]:
        found = []
        for node in self.nodes:
            with suppress(*UNREACHABLE):
                if self.node_client(node).info("replication")["role"] == role:
                    found.append(node)
        return found


def start_redis(place: Place, replicas: int) -> Redis:
    """Start one Redis with this many replicas."""
    ports = free_ports(1 + replicas)
    password = secrets.token_hex(8)
    common = SETTINGS | {"requirepass": password, "masterauth": password}
    primary = place.valkey("redis-1", common | {"port": ports[0]})
    follow = {"replicaof": f"{primary.peer_name} {ports[0]}"}
    nodes = [primary]
    for number, port in enumerate(ports[1:], start=2):
        nodes.append(place.valkey(f"redis-{number}", common | follow | {"port": port}))
    url = f"redis://:{password}@{LOOPBACK}:{ports[0]}/0"
    server = Redis({"REDIS_URL": url}, nodes)
    wait_for(server.ready, "Redis answers", starting=nodes)
    return server


def start_redis_cluster(place: Place, replicas: int, node_timeout: int) -> RedisCluster:
    """Start a cluster of three masters, each with this many replicas."""
    count = MASTERS * (1 + replicas)
    ports = free_ports(2 * count)
    password = secrets.token_hex(8)
    common = SETTINGS | {
        "requirepass": password,
        "masterauth": password,
        "cluster-enabled": "yes",
        "cluster-node-timeout": node_timeout,
    }
    nodes = [
        place.valkey(f"redis-{number + 1}", common | {"port": ports[number], "cluster-port": ports[count + number]})
        for number in range(count)
    ]
    url = f"redis+cluster://:{password}@" + ",".join(f"{LOOPBACK}:{port}" for port in ports[:count])
    cluster = RedisCluster({"REDIS_CLUSTER_URL": url}, nodes)
    clients = [cluster.node_client(node) for node in nodes]
    wait_for(lambda: all(_answers(client) for client in clients), "all nodes answer", starting=nodes)
    _form_cluster(clients, [node.peer_address for node in nodes], ports)
    wait_for(cluster.ready, "the cluster is whole", starting=nodes)
    return cluster


def _form_cluster(clients: list[redis.Redis], hosts: list[str], ports: list[int]) -> None:
    """Make single nodes into a cluster. `ports` are those for clients, then those between nodes."""
    count = len(clients)
    for number, client in enumerate(clients):  # before any of them has met another: after that it is refused
        client.cluster("SET-CONFIG-EPOCH", number + 1)
    for client in clients:
        for other in range(count):
            client.cluster("MEET", hosts[other], ports[other], ports[count + other])
    for number, client in enumerate(clients[:MASTERS]):
        first, last = (REDIS_CLUSTER_HASH_SLOTS * edge // MASTERS for edge in (number, number + 1))
        client.cluster("ADDSLOTSRANGE", first, last - 1)
    for number, client in enumerate(clients[MASTERS:]):
        master = clients[number % MASTERS].cluster("MYID")
        wait_for(partial(_follows, client, master), "each replica knows its master")


def _reunite(clients: list[redis.Redis], places: list[tuple[str, int]]) -> None:
    """Have nodes meet again whose addresses have changed, as those of containers may, while no other was there."""
    between = [client.config_get("cluster-port")["cluster-port"] for client in clients]
    for client in clients:
        known = client.cluster("NODES")
        for (host, port), other in zip(places, between, strict=True):
            if f"{host}:{port}" not in known:
                client.cluster("MEET", host, port, other)


def _follows(client: redis.Redis, master: bytes) -> bool:
    try:
        return bool(client.cluster("REPLICATE", master))
    except redis.ResponseError:  # it has not met its master yet
        return False


def _view(client: redis.Redis) -> frozenset | None:
    """Who is there, and who is a master, as a node sees it. None while it is not in step or sees slots unserved."""
    if client.cluster("INFO")["cluster_state"] != "ok":
        return None
    if client.info("replication").get("master_link_status", "up") != "up":
        return None
    seen = client.cluster("NODES")
    if any("handshake" in about["flags"] for about in seen.values()):
        return None
    return frozenset(
        (place, "master" in about["flags"]) for place, about in seen.items() if "fail" not in about["flags"]
    )


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (*UNREACHABLE, redis.BusyLoadingError):
        return False


def _client(node: Node, url: str, **options: Any) -> redis.Redis:
    options = {"socket_timeout": ANSWER_SECONDS, "retry": None} | options
    return redis.Redis(LOOPBACK, node.port, **_credentials(url), **options)


def _credentials(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {name: unquote(value) for name in ("username", "password") if (value := getattr(parts, name))}


def _fill_memory(client: redis.Redis) -> None:
    """What it holds is more than it may hold now. Filling it up to a limit would leave the last bytes to chance."""
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", client.info("memory")["used_memory"] * 9 // 10)


def _free_memory(client: redis.Redis) -> None:
    client.config_set("maxmemory", 0)
