"""Links to the cluster: commands go out together, and each has its result.

Owns the client library, and what an acknowledgement means. Does not know what is asked. What is
here runs in a thread beside the loop, and waits.
"""

import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from metricsd.cluster.address import Address
from metricsd.cluster.encoding import SLOTS, Command, name_in, slot_of
from metricsd.store import OpenError

# Milliseconds that the cluster has to answer, and to take a connection. Whoever puts waits so long
# for an error: a shard that needs more is as good as gone.
ANSWER_MS = 1000
CONNECT_MS = 500

# Milliseconds of these that a replica has to confirm what its primary has stored.
REPLICA_MS = 500

# Seconds from a failure to connect until it is tried again.
RETRY_SECONDS = 0.5

Node = Tuple[str, int]  # its host and its port
Results = List[Any]  # one a command; an exception is in the place of one that has failed


class LinkError(Exception):
    """The cluster can't be reached, or does not answer."""


def load_library() -> Any:
    """The client library. Raises OpenError if it is not installed."""
    try:
        import glide_sync
    except ImportError as error:
        what = "a store that is a cluster needs the package valkey-glide-sync"
        raise OpenError(f"{what}: pip install 'metricsd[cluster]' ({error})") from error
    glide_sync.Logger.set_logger_config(glide_sync.LogLevel.OFF)  # we say it ourselves
    return glide_sync


class Link:
    """To the whole cluster: each command goes to the primary of its slot, wherever that is now.

    A result says that this primary has done it.
    """

    # Puts that should be sent at a time. A shard does nothing else meanwhile: with 1,000, others'
    # gets take nearly twice as long (p99), and with 60 a front stores a quarter less.
    puts_at_a_time = 125

    def __init__(self, address: Address) -> None:
        self.library = load_library()
        self._address = address
        self._client: Any = None
        self._failed = ""  # why the last attempt to connect has failed
        self._retry_at = 0.0
        self._owners: List[Optional[Node]] = []  # by slot; empty: to be asked for

    def run(self, commands: Sequence[Command]) -> Results:
        """Do all of these; those of one slot in their order. Raises LinkError."""
        library = self.library
        options = library.ClusterBatchOptions(timeout=ANSWER_MS)
        batch = library.ClusterBatch(is_atomic=False)
        for command in commands:
            batch.custom_command(command)
        client = self._connected()
        try:
            return client.exec(batch, False, options)  # type: ignore[no-any-return]
        except library.GlideError as error:
            raise LinkError(str(error)) from error

    def owners(self) -> List[Optional[Node]]:
        """The primary of each slot, if it has one, as it was when last asked. Raises LinkError."""
        if not self._owners:
            client = self._connected()
            try:
                answer = client.custom_command([b"CLUSTER", b"SLOTS"], self.library.RandomNode())
            except self.library.GlideError as error:
                raise LinkError(str(error)) from error
            owners: List[Optional[Node]] = [None] * SLOTS
            for first, last, node, *_ in answer:
                # One that does not say where it is reached is reached where the cluster is.
                host = (node[0] or b"").decode() or self._address.hosts[0][0]
                owners[first : last + 1] = [(host, node[1])] * (last + 1 - first)
            self._owners = owners
        return self._owners

    def forget_owners(self) -> None:
        """Ask for them again: they may be others by now."""
        self._owners = []

    def to_node(self, host: str, port: int) -> Any:
        """A client of the library that speaks to one node only. Raises LinkError."""
        library = self.library
        return self._create(
            library.GlideClient, library.GlideClientConfiguration, [(host, port)],
            library.AdvancedGlideClientConfiguration,
        )  # fmt: skip

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()

    def _connected(self) -> Any:
        if self._client is None:
            if time.monotonic() < self._retry_at:
                raise LinkError(self._failed)
            library = self.library
            try:
                self._client = self._create(
                    library.GlideClusterClient, library.GlideClusterClientConfiguration,
                    self._address.hosts, library.AdvancedGlideClusterClientConfiguration,
                )  # fmt: skip
            except LinkError as error:
                self._failed = str(error)
                self._retry_at = time.monotonic() + RETRY_SECONDS
                raise
        return self._client

    def _create(
        self,
        client: Any,
        configuration: Callable[..., Any],
        hosts: List[Node],
        advanced: Callable[..., Any],
    ) -> Any:
        library, address = self.library, self._address
        credentials = None
        if address.password is not None:
            credentials = library.ServerCredentials(address.password, address.user)
        try:
            return client.create(
                configuration(
                    [library.NodeAddress(host, port) for host, port in hosts],
                    use_tls=address.tls,
                    credentials=credentials,
                    request_timeout=ANSWER_MS,
                    advanced_config=advanced(connection_timeout=CONNECT_MS),
                )
            )
        except library.GlideError as error:
            raise LinkError(str(error)) from error


class ReplicatedLink:
    """To each primary by itself: a result says that a replica has it too.

    A replica is asked with WAIT, which vouches only for what came before it on its own connection:
    so the commands for a primary are one pipeline that ends with it, to a client that knows no
    other node and so can't follow a redirection. A slot that is elsewhere by now, a connection that
    breaks, a replica that does not answer: all of that is an error.
    """

    puts_at_a_time = 1000  # each time replicas are waited for, and others have their turn

    def __init__(self, address: Address) -> None:
        self._link = Link(address)
        self.owners = self._link.owners
        self.forget_owners = self._link.forget_owners
        self._nodes: Dict[Node, Any] = {}
        self._retry_at: Dict[Node, float] = {}  # nodes that have just failed, and when

    def run(self, commands: Sequence[Command]) -> Results:
        """Do all of these; those of one slot in their order. Raises LinkError."""
        owners = self.owners()
        places: Dict[Optional[Node], List[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(owners[slot_of(name_in(command))], []).append(place)
        results: Results = [None] * len(commands)
        for node, its_places in places.items():
            found = self._run_on(node, [commands[place] for place in its_places])
            for place, result in zip(its_places, found):
                results[place] = result
        return results

    def close(self) -> None:
        """Give the connections back."""
        for client in self._nodes.values():
            client.close()
        self._link.close()

    def _run_on(self, node: Optional[Node], commands: List[Command]) -> Results:
        library = self._link.library
        if node is None:
            self.forget_owners()
            return [LinkError("not all slots are served")] * len(commands)
        if time.monotonic() < self._retry_at.get(node, 0.0):
            return [LinkError("it has just failed")] * len(commands)
        batch = library.Batch(is_atomic=False)
        for command in commands:
            batch.custom_command(command)
        batch.custom_command([b"WAIT", b"1", b"%d" % REPLICA_MS])
        try:
            if node not in self._nodes:
                self._nodes[node] = self._link.to_node(*node)
            *found, replicas = self._nodes[node].exec(
                batch, False, library.BatchOptions(timeout=ANSWER_MS)
            )
            if isinstance(replicas, Exception) or replicas < 1:
                raise LinkError(f"no replica of {node[0]}:{node[1]} has confirmed")
            results: Results = found
        except (LinkError, library.GlideError) as error:
            results = [error] * len(commands)
            self._retry_at[node] = time.monotonic() + RETRY_SECONDS  # others need not wait for it
        if any(isinstance(result, Exception) for result in results):
            self.forget_owners()
            client = self._nodes.pop(node, None)
            if client is not None:
                client.close()
        return results
