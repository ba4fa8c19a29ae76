"""What one request may cost, and the one exception that says it asks for too much or for nonsense.

Owns the bounds. Work is counted in values: to compute one takes some 0.1 us in CPython.
"""


class RenderError(ValueError):
    """A client's mistake; the message is one line, which is what the client is told."""


# Targets of one request; a dashboard's panel rarely has more than ten.
MAX_TARGETS = 100

# Characters of one target: it is parsed in one step, at about 0.4 us a character.
MAX_TARGET_CHARS = 4096

# Calls within calls. Grafana's own wrapping included, dashboards reach ten.
MAX_NESTING = 32

# Data points of each series: more than the widest screen has pixels. Also what is taken where a
# request does not say how many it wants. A series is computed in one step, so this is its length.
MAX_DATA_POINTS = 5_000

# Values of one series with those before the range, which windows read.
MAX_SERIES_VALUES = 3 * MAX_DATA_POINTS

# Series that one glob may match in a render: a picture of more is of no use.
MAX_SERIES = 10_000

# Paths that one search may find.
MAX_NODES = 50_000

# Values that one request may compute in all, those of nested calls included: half a second of work,
# and, as each may take 32 bytes while the request lasts, 160 MB.
MAX_VALUES = 5_000_000

# Characters of a name of a series, which functions make longer; the longest key has 64 KiB.
MAX_NAME_CHARS = 100_000

# Characters of names that one request may make in all.
MAX_NAMES_CHARS = 20_000_000

# Values after which a step is over: a block that is opened, some 0.05 ms. Of blocks whose summary
# is known it is twenty; where these are made first, that is 0.7 ms.
VALUES_A_STEP = 400

# Keys that are compared with a pattern in a step: some 0.1 ms.
KEYS_A_STEP = 256

# Alternatives that the braces of one pattern may stand for.
MAX_VARIANTS = 100
