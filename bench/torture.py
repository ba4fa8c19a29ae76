"""Try to knock the server over, and say what it cost.

    python3 bench/torture.py --quick
    python3 bench/torture.py --only readers

Everything is bounded in count and time, and repeatable: random inputs come from fixed seeds. A line
for each finding; the exit code is 0 only if every bound was kept.
"""

import argparse
import json
import sys
import time
from typing import Any, Callable, Dict, List

import adversaries
import scenarios
from scenarios import FULL, QUICK, Finding, Findings, Progress, Size

SCENARIOS: Dict[str, Callable[[Size, Progress], Findings]] = {
    **scenarios.SCENARIOS,
    **adversaries.SCENARIOS,
}


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", metavar="NAME", help="one of: " + ", ".join(SCENARIOS))
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if options.only is not None and options.only not in SCENARIOS:
        parser.error(f"--only: {options.only!r} is none of {', '.join(SCENARIOS)}")
    names = [options.only] if options.only else list(SCENARIOS)
    try:
        outcome = [run(name, QUICK if options.quick else FULL, not options.json) for name in names]
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(outcome, indent=1))
    findings = [finding for scenario in outcome for finding in scenario["findings"]]
    broken = sum(not finding["held"] for finding in findings)
    if not options.json:
        print(f"{broken} bounds not kept" if broken else f"all {len(findings)} bounds kept")
    return 1 if broken else 0


def run(name: str, size: Size, show: bool) -> Dict[str, Any]:
    """Run a scenario; its findings, and how long it took."""
    _progress(f"{name}: {SCENARIOS[name].__doc__}")
    started = time.monotonic()
    findings: List[Finding] = []
    try:
        for finding in SCENARIOS[name](size, lambda text: _progress(f"  {text}")):
            findings.append(finding)
            if show:
                print(line(name, finding), flush=True)
    except OSError as error:  # a healthy client was disconnected, or the server has ended
        findings.append(Finding("went to its end", str(error), "no failure", False))
        if show:
            print(line(name, findings[-1]), flush=True)
    seconds = round(time.monotonic() - started, 1)
    _progress(f"  {seconds} s")
    return {"name": name, "seconds": seconds, "findings": [f._asdict() for f in findings]}


def line(name: str, finding: Finding) -> str:
    """A finding as a row of the table in the README."""
    held = "held" if finding.held else "**not held**"
    return f"| {name} | {finding.what} | {finding.measured} | {finding.bound} | {held} |"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
