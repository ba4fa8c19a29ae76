"""The actions: what each kind of action in a script does to the world.

Owns the details, which come from the number of an action. Does not know what has to come of them.
"""

import errno
from typing import TYPE_CHECKING, Callable, Dict

from simulation.clients import BULK_PUTS, Client, Feeder, feed
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


def _connect(world: "World", dice: Dice) -> None:
    if world.listening.closed:
        return
    number = len(world.sockets) + len(world.listening.backlog) + len(world.feeding.backlog)
    sock = Socket(0, world.call, dice.choice(ROOMS))
    client = (Feeder if dice.one_in(6) else Client)(sock, dice.choice(ROOMS), world.model)
    client.eager = client.eager or dice.below(3) > 0
    client.deaf = not client.eager and dice.one_in(4)
    client.chatty = client.eager and dice.one_in(4)
    world.clients.append(client)
    listening = world.listening
    if isinstance(client, Feeder):
        listening = world.feeding
        world.feeders.append(client)
    listening.backlog.append((sock, ("198.51.100.7", 40_000 + number)))


def _crowd(world: "World", dice: Dice) -> None:
    _come(world, dice, CROWD if dice.one_in(4) else FEW)


def _come(world: "World", dice: Dice, count: int) -> None:
    """So many connect, and ask at once."""
    for _ in range(count):
        _connect(world, dice)
        for client in world.clients[-1:]:
            _ask(world, client, dice, 1)


def _ask(world: "World", client: Client, dice: Dice, count: int) -> None:
    if len(client.expected) < BULK_PUTS:
        client.ask(dice, count, world)
        world.push(client, MOST if client.eager else dice.choice([0, 3, 50, MOST]))


def _ask_some(world: "World", client: Client, dice: Dice) -> None:
    _ask(world, client, dice, dice.choice([1, 1, 1, 2, 5, 20]))


def _bulk(world: "World", client: Client, dice: Dice) -> None:
    _ask(world, client, dice, BULK_PUTS)


def _datagram(world: "World", dice: Dice) -> None:
    if not world.datagrams.closed:
        lines, puts = zip(*[feed(world, dice, world) for _ in range(1 + dice.below(3))])
        datagram = b"".join(lines)
        world.datagrams.waiting.append(datagram[:-1] if dice.one_in(2) else datagram)
        world.in_datagrams += puts


def _push(world: "World", client: Client, dice: Dice) -> None:
    world.push(client, dice.choice(PIECES))


def _read(world: "World", client: Client, dice: Dice) -> None:
    if not client.deaf:
        world.read(client, dice.choice(PIECES + [MOST]))


def _end(world: "World", client: Client, dice: Dice) -> None:
    client.end()
    world.teller.act("ends", client.name)


def _leave(world: "World", client: Client, dice: Dice) -> None:
    client.leave()
    world.teller.act("leaves", client.name)


def _not_ready(world: "World", client: Client, dice: Dice) -> None:
    if world.options.idle_timeout is None:  # or else it may be taken for idle
        client.socket.not_ready = True


def _work(world: "World", dice: Dice) -> None:
    world.work_in = dice.choice(CALLS)
    if not world.work_in:
        world.work()


def _time(world: "World", dice: Dice) -> None:
    if not world.stopping:
        world.clock.now += dice.choice(PAUSES)


def _crash(power_cut: bool) -> Callable[["World", Dice], None]:
    def act(world: "World", dice: Dice) -> None:
        if world.options.fsync is not None and world.crash_in < 0 and not world.stopping:
            world.power_cut, world.crash_in = power_cut, dice.choice(CALLS)
            world.luck = dice.seed

    return act


def _disk(fault: str) -> Callable[["World", Dice], None]:
    def act(world: "World", dice: Dice) -> None:
        world.disk.fault, world.disk.room = fault, dice.below(dice.choice(FREE_BYTES))

    return act


def _descriptors(world: "World", dice: Dice) -> None:
    world.all_accepted = False
    world.listening.out_of_descriptors = not world.listening.out_of_descriptors


def _refuse(world: "World", dice: Dice) -> None:
    world.all_accepted = False
    world.selector.refusals = 1


def _gone(world: "World", dice: Dice) -> None:
    world.all_accepted = False
    world.listening.failures.append(errno.ECONNABORTED)


def _no_select(world: "World", dice: Dice) -> None:
    world.select_fails = world.options.idle_timeout is None


def _stop(world: "World", dice: Dice) -> None:
    if dice.one_in(4) and not world.stopping:
        _come(world, dice, dice.choice([0, CROWD]))  # more than are accepted in a turn
        world.stop()


# What one client does, or meets with: any of those that are there.
OF_CLIENTS: Dict[str, Callable[["World", Client, Dice], None]] = {
    "ask": _ask_some, "bulk": _bulk, "push": _push, "read": _read,
    "end": _end, "leave": _leave, "not ready": _not_ready,
}  # fmt: skip
OF_THE_WORLD: Dict[str, Callable[["World", Dice], None]] = {
    "turn": lambda world, dice: None, "connect": _connect, "crowd": _crowd, "work": _work,
    "time": _time, "kill": _crash(False), "power cut": _crash(True), "disk full": _disk(FULL),
    "sync fails": _disk(SYNC_FAILS), "descriptors": _descriptors, "refuse": _refuse,
    "gone": _gone, "datagram": _datagram, "no select": _no_select, "stop": _stop,
}  # fmt: skip


def act(world: "World", action: Action) -> None:
    """Do it."""
    dice = Dice(action.number)
    if action.kind in OF_THE_WORLD:
        OF_THE_WORLD[action.kind](world, dice)
        return
    there = [client for client in world.clients if not client.left]
    world.clients = [client for client in world.clients if client.due or not client.left]
    if there:
        client = there[action.number % len(there)]
        OF_CLIENTS[action.kind](world, client, dice)
