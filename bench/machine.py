"""The machine on which something is measured, and whether it does anything else."""

import datetime
import os
import platform
import re
import time
from typing import Callable, Dict, List, Optional, Tuple

# Share of the processors' time that others may take before a comparison begins. On a machine at
# rest it is below 0.02; a single busy process takes 0.5 of two processors.
BUSY_SHARE = 0.1
LOOK_SECONDS = 1.0


def about(rounds: int, seconds: float) -> Dict[str, str]:
    """The machine, the Python and the date."""
    processor = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = re.findall(r"model name\s*:\s*(.*)", file.read())
        processor = names[0] if names else processor
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "rounds": f"{rounds} of {seconds:g} s",
    }


def look_around(say: Callable[[str], None]) -> List[str]:
    """Say whether the machine is busy before anything begins; return the warning, if so."""
    share = _busy_share()
    if share is None or share <= BUSY_SHARE:
        return []
    warning = (
        f"the machine was busy when this began: {100 * share:.0f} % of its processors' time, "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    say(f"warning: {warning}")
    return [warning]


def _busy_share() -> Optional[float]:
    """The share of all processors' time that something takes; None where that is not told."""
    try:
        before = _processor_times()
        time.sleep(LOOK_SECONDS)
        idle, total = (now - then for now, then in zip(_processor_times(), before))
    except OSError:
        return None
    return 1 - idle / total


def _processor_times() -> Tuple[int, int]:
    """Idle and all, of all processors so far: proc(5), the first line of /proc/stat (Linux)."""
    with open("/proc/stat") as file:
        times = [int(word) for word in file.readline().split()[1:9]]
    return times[3] + times[4], sum(times)  # idle and iowait
