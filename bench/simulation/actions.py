"""The actions: what each kind of action in a script does to the world.

Owns the details, which come from the number of an action. Does not know what has to come of them.
"""

import errno
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from simulation.clients import BULK_PUTS, Client
from simulation.dice import Dice
from simulation.machine import FULL, SYNC_FAILS
from simulation.network import Socket
from simulation.script import Action

if TYPE_CHECKING:
    from simulation.world import World

MOST = 10**9  # bytes: all of them
ROOMS = [700, 5_000, 70_000, 200_000]  # bytes that a kernel keeps for a socket
PIECES = [1, 7, 40, 1000]  # bytes that go at a time
PAUSES = [0.001, 0.01, 0.1, 0.6, 2.0, 11.0, 61.0]  # seconds that pass at a time
CALLS = [0, 1, 3, 9, 30]  # system calls after which the thread goes on, or the process ends
FREE_BYTES = [40, 9000]  # at most, on a disk that is full: less than a WAL's header, or some pages
CROWD = 150  # clients who come at once, if it is a large one
FEW = 3  # and if it is not


def _any(world: "World", action: Action) -> Optional[Client]:
    world.clients = [client for client in world.clients if not client.left]
    return world.clients[action.number % len(world.clients)] if world.clients else None


def _connect(world: "World", action: Action, dice: Dice) -> None:
    if world.listening.closed:
        return
    number = len(world.sockets) + len(world.listening.backlog)
    sock = Socket(0, world.call, dice.choice(ROOMS))
    client = Client(sock, dice.choice(ROOMS), world.model)
    client.eager = dice.below(3) > 0
    client.deaf = not client.eager and dice.one_in(4)
    world.clients.append(client)
    world.listening.backlog.append((sock, ("198.51.100.7", 40_000 + number)))


def _crowd(world: "World", action: Action, dice: Dice) -> None:
    for _ in range(CROWD if dice.one_in(4) else FEW):
        _connect(world, action, dice)
        _ask(world, dice, 1, world.clients[-1:])


def _ask_some(world: "World", action: Action, dice: Dice) -> None:
    _ask(world, dice, dice.choice([1, 1, 1, 2, 5, 20]), [_any(world, action)])


def _bulk(world: "World", action: Action, dice: Dice) -> None:
    _ask(world, dice, BULK_PUTS, [_any(world, action)])


def _ask(world: "World", dice: Dice, count: int, clients: Any) -> None:
    for client in clients:
        if client is not None and len(client.expected) < BULK_PUTS:
            client.ask(dice, count, world)
            world.push(client, MOST if client.eager else dice.choice([0, 3, 50, MOST]))


def _push(world: "World", action: Action, dice: Dice) -> None:
    client = _any(world, action)
    if client is not None:
        world.push(client, dice.choice(PIECES))


def _read(world: "World", action: Action, dice: Dice) -> None:
    client = _any(world, action)
    if client is not None and not client.deaf:
        world.read(client, dice.choice(PIECES + [MOST]))


def _end(world: "World", action: Action, dice: Dice) -> None:
    client = _any(world, action)
    if client is not None:
        client.end()
        world.teller.act("ends", client.name)


def _leave(world: "World", action: Action, dice: Dice) -> None:
    client = _any(world, action)
    if client is not None:
        client.leave()
        world.teller.act("leaves", client.name)


def _not_ready(world: "World", action: Action, dice: Dice) -> None:
    client = _any(world, action)
    if client is not None and world.idle_timeout is None:  # or else it may be taken for idle
        client.socket.not_ready = True


def _work(world: "World", action: Action, dice: Dice) -> None:
    world.work_in = dice.choice(CALLS)
    if not world.work_in:
        world.work()


def _time(world: "World", action: Action, dice: Dice) -> None:
    if not world.stopping:
        world.clock.now += dice.choice(PAUSES)


def _crash(world: "World", action: Action, dice: Dice) -> None:
    if world.options.fsync is not None and world.crash_in < 0 and not world.stopping:
        world.crash, world.crash_in = action, dice.choice(CALLS)


def _disk(world: "World", action: Action, dice: Dice) -> None:
    world.disk.fault = FULL if action.kind == "disk full" else SYNC_FAILS
    world.disk.room = dice.below(dice.choice(FREE_BYTES))


def _descriptors(world: "World", action: Action, dice: Dice) -> None:
    world.all_accepted = False
    world.listening.out_of_descriptors = not world.listening.out_of_descriptors


def _refuse(world: "World", action: Action, dice: Dice) -> None:
    world.all_accepted = False
    world.selector.refusals = 1


def _gone(world: "World", action: Action, dice: Dice) -> None:
    world.listening.failures.append(errno.ECONNABORTED)


def _no_select(world: "World", action: Action, dice: Dice) -> None:
    world.select_fails = world.idle_timeout is None


def _stop(world: "World", action: Action, dice: Dice) -> None:
    if dice.one_in(4) and not world.stopping:
        world.stop()


ACTIONS: Dict[str, Callable[["World", Action, Dice], None]] = {
    "connect": _connect,
    "crowd": _crowd,
    "ask": _ask_some,
    "bulk": _bulk,
    "push": _push,
    "read": _read,
    "end": _end,
    "leave": _leave,
    "not ready": _not_ready,
    "work": _work,
    "time": _time,
    "kill": _crash,
    "power cut": _crash,
    "disk full": _disk,
    "sync fails": _disk,
    "descriptors": _descriptors,
    "refuse": _refuse,
    "gone": _gone,
    "no select": _no_select,
    "stop": _stop,
}
