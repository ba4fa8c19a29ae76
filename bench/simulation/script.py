"""The script: what happens in a run, one action after the other, all of it from one seed.

Owns how often what happens. An action has a number of its own, from which its details come, so that
the rest of a script stays the same when some of it is taken out. Does not play it: world.py does.
"""

from typing import Callable, List, NamedTuple, Optional

from simulation.dice import Dice

STEPS = 300

# How often something happens, beside the turns of the loop. A run leaves out some of it, so that
# what is left meets more often.
OFTEN = {"turn": 90, "ask": 40, "read": 16, "connect": 8}
SOMETIMES = {
    "push": 12, "work": 24, "time": 10, "bulk": 3, "end": 2, "leave": 2, "not ready": 3, "kill": 2,
    "power cut": 2, "disk full": 3, "sync fails": 4, "descriptors": 2, "refuse": 1, "gone": 1,
    "crowd": 1, "stop": 1, "no select": 1, "datagram": 4,
}  # fmt: skip


class Action(NamedTuple):
    """Something that happens; the number decides the rest."""

    kind: str
    number: int


class Options(NamedTuple):
    """What kind of server it is, and what its limits are."""

    fsync: Optional[str]  # None: memory
    max_points: Optional[int]
    max_connections: int
    max_line_bytes: int
    idle_timeout: Optional[float]
    retention: Optional[float]
    log_bytes: int
    wal_pages: int
    chunk_puts: int

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in zip(self._fields, self))


class Script(NamedTuple):
    """All of a run."""

    options: Options
    actions: List[Action]


def write(seed: int, steps: int = STEPS) -> Script:
    """The script of a seed."""
    dice = Dice(seed)
    options = Options(
        fsync=dice.choice([None, None, "always", "always", "everysec", "never"]),
        max_points=dice.choice([None, None, None, 30]),
        max_connections=dice.choice([20000, 20000, 4]),
        max_line_bytes=dice.choice([64 * 1024, 120]),
        idle_timeout=dice.choice([None, None, 1.0, 5.0]),
        retention=dice.choice([None, None, None, 30.0]),
        log_bytes=dice.choice([8 * 1024 * 1024, 2000, 4000]),
        wal_pages=dice.choice([1024, 16]),
        chunk_puts=dice.choice([2000, 4]),
    )
    bag = [kind for kind, times in OFTEN.items() for _ in range(times * (1 + dice.below(3)))]
    for kind, times in SOMETIMES.items():
        bag += [kind] * (times * dice.below(3))
    actions = [Action("connect", dice.number())]
    actions += [Action(dice.choice(bag), dice.number()) for _ in range(steps - 1)]
    return Script(options, actions)


def shrink(script: Script, fails: Callable[[Script], bool]) -> Script:
    """The shortest script found that still fails: parts are taken out, large ones first."""
    actions = script.actions
    size = len(actions) // 2
    while size:
        start = 0
        while start < len(actions):
            fewer = actions[:start] + actions[start + size :]
            if fails(Script(script.options, fewer)):
                actions = fewer
            else:
                start += size
        size //= 2
    return Script(script.options, actions)
