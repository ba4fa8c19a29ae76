"""The script: what may happen, how often, and what that does to the world; all from one seed.

Owns the actions. An action has a number of its own, from which its details come, so that the rest
of a script stays the same when some of it is taken out. Does not know what has to come of them.
"""

import errno
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Tuple

from simulation.clients import BULK_PUTS, KEYS, LONG_KEY, MOST, Client
from simulation.dice import Dice

if TYPE_CHECKING:
    from simulation.world import World

STEPS = 300

# What servers are like: options of the command line, and constants that are smaller here.
OPTIONS: Dict[str, List[Any]] = {
    "fsync": [None, None, "always", "always", "everysec", "never"],  # None: memory
    "max_points": [None, None, 30],
    "max_connections": [20000, 20000, 4],
    "max_line_bytes": [64 * 1024, 64 * 1024, 120],
    "idle_timeout": [None, None, 1.0, 5.0],
    "retention": [None, None, None, 30.0],
    "LOG_BYTES": [8 * 1024 * 1024, 1000, 2000],
    "WAL_PAGES": [1024, 16],
    "CHUNK_PUTS": [2000, 4],
    "STEP_ROWS": [256, 2],
    "BLOCK_POINTS": [240, 8],
    "SLOW_PUTS": [8, 2],
    "CALM": [3.0, 0.0],  # seconds without anything new, before the server stops
}

# Constants that are drawn last, so that older scripts stay what they were.
LATER_OPTIONS: Dict[str, List[Any]] = {
    "PENDING_PUTS": [200000, 20],
    "SLICE_PUTS": [500, 3],
}

ASKED = [1, 1, 1, 2, 5, 20]  # requests at a time
PIECES = [1, 7, 40, 1000]  # bytes that go at a time
PAUSES = [0.001, 0.01, 0.1, 0.6, 2.0, 11.0, 61.0]  # seconds that pass at a time
CALLS = [1, 2, 4, 10, 31]  # system calls after which the thread goes on, or the process ends
CROWD, FEW = 100, 3  # clients who come at once; a turn accepts 64

Act = Callable[["World", Dice], None]


class Action(NamedTuple):
    """Something that happens; the number decides the rest."""

    kind: str
    number: int


class Script(NamedTuple):
    """All of a run."""

    options: Dict[str, Any]
    actions: List[Action]


def _come(world: "World", dice: Dice, count: int) -> None:
    """So many connect, and ask at once if there are several."""
    for _ in range(0 if world.listening.closed else count):
        client = Client(world, dice.one_in(6), dice)
        world.clients.append(client)
        (world.feeding if client.feeds else world.listening).inbound.append(client)
        if count > 1:
            client.ask(dice, dice.pick(ASKED))


def _one(do: Callable[[Client, Dice], None], datagrams: bool = False) -> Act:
    """An action of somebody who is there."""

    def act(world: "World", dice: Dice) -> None:
        there = [client for client in world.clients if not client.left]
        there = [client for client in there if datagrams or client is not world.datagrams]
        if there:
            do(dice.pick(there), dice)

    return act


def _fault(call: str, code: int, times: int = 1) -> Act:
    """The next calls of a kind fail, or writes of the disk do."""

    def act(world: "World", dice: Dice) -> None:
        if call != "select" or not world.options["idle_timeout"]:  # who is not heard is not idle
            world.faults[call], world.luck = [code] * times, dice
            world.all_accepted &= call not in ("accept", "watch")

    return act


def _everybody(world: "World", dice: Dice) -> None:
    """All ask at once, so that what they put is one block."""
    count = dice.pick([1, 1, 2])
    for client in world.clients:
        client.ask(dice, count)


def _work(world: "World", dice: Dice) -> None:
    world.work_in = dice.pick([0, *CALLS])
    if not world.work_in:
        world.work()


def _time(world: "World", dice: Dice) -> None:
    if not world.stopping:
        world.pass_time(dice.pick(PAUSES))


def _drop(world: "World", dice: Dice) -> None:
    if not world.stopping:
        key = dice.pick([*KEYS, LONG_KEY])
        world.server._reactor.post(lambda: world.drop(key))


def _crash(world: "World", dice: Dice, power_cut: bool) -> None:
    if world.durable and not world.crash_in and not world.stopping:
        world.power_cut, world.crash_in, world.luck = power_cut, dice.pick(CALLS), dice
        world.crash_at = dice.pick(["", "disk"])


def _stop(world: "World", dice: Dice) -> None:
    if dice.one_in(4) and not world.stopping:
        _come(world, dice, dice.pick([0, CROWD]))  # more than are accepted in a turn
        world.stop()


# How often something happens, and what it does; of some things a run leaves out some, so that what
# is left meets more often. What is always there is more often still.
ALWAYS = {"turn": 90, "ask": 40, "read": 16, "connect": 8}
ACTIONS: Dict[str, Tuple[int, Act]] = {
    "ask": (0, _one(lambda client, dice: client.ask(dice, dice.pick(ASKED)), True)),
    "bulk": (3, _one(lambda client, dice: client.ask(dice, BULK_PUTS), True)),
    "push": (12, _one(lambda client, dice: client.push(dice.pick(PIECES)))),
    "read": (0, _one(lambda client, dice: client.read(dice.pick([*PIECES, MOST])))),
    "end": (2, _one(lambda client, dice: client.end())),
    "leave": (2, _one(lambda client, dice: client.leave())),
    "connect": (0, lambda world, dice: _come(world, dice, 1)),
    "crowd": (1, lambda world, dice: _come(world, dice, CROWD if dice.one_in(4) else FEW)),
    "everybody": (6, _everybody),
    "work": (24, _work),
    "time": (10, _time),
    "drop": (6, _drop),
    "kill": (2, lambda world, dice: _crash(world, dice, False)),
    "power cut": (2, lambda world, dice: _crash(world, dice, True)),
    "stop": (1, _stop),
    "not ready": (3, _fault("recv", errno.EAGAIN)),
    "not writable": (2, _fault("send", errno.EAGAIN)),
    "gone": (1, _fault("accept", errno.ECONNABORTED)),
    "descriptors": (2, _fault("accept", errno.EMFILE, 40)),
    "not watched": (1, _fault("watch", errno.ENOSPC)),
    "no select": (1, _fault("select", errno.EBADF)),
    "disk fails": (7, _fault("disk", errno.EIO)),
}


def write(seed: int) -> Script:
    """The script of a seed."""
    dice = Dice(seed)
    options = {name: dice.pick(values) for name, values in OPTIONS.items()}
    bag = [kind for kind, times in ALWAYS.items() for _ in range(times * (1 + dice.below(3)))]
    for kind, (times, _) in ACTIONS.items():
        bag += [kind] * (times * dice.below(3))
    kinds = ["connect"] + [dice.pick(bag) for _ in range(STEPS - 1)]
    actions = [Action(kind, dice.below(2**31)) for kind in kinds]
    options.update((name, dice.pick(values)) for name, values in LATER_OPTIONS.items())
    return Script(options, actions)
