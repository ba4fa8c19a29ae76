"""python3 -m metricsd.durable backup PATH TARGET: copy a file, also while a server uses it."""

import sys

from metricsd.durable.backup import main

if __name__ == "__main__":
    sys.exit(main())
