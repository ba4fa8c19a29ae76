"""Graphite's carbon-cache: in memory alone, where it creates no files, or with its files.

python3 bench/peers/carbon.py PORT [files]
"""

import os
import shutil
import sys
import tempfile

CONFIGURATION = """\
[cache]
STORAGE_DIR = {folder}
LOCAL_DATA_DIR = {folder}
CONF_DIR = {folder}
LOG_DIR = {folder}
PID_DIR = {folder}
USER =
MAX_CACHE_SIZE = inf
MAX_CREATES_PER_MINUTE = {rate}
MAX_UPDATES_PER_SECOND = inf
ENABLE_LOGROTATION = False
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {port}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = 0
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = 0
"""

SCHEMAS = "[default]\npattern = .*\nretentions = 10s:1d\n"


def main(port: int, with_files: bool) -> None:
    """Become carbon-cache, with a configuration of its own."""
    folder = tempfile.mkdtemp()
    configuration = os.path.join(folder, "carbon.conf")
    with open(configuration, "w", encoding="utf-8") as file:
        file.write(
            CONFIGURATION.format(folder=folder, port=port, rate="inf" if with_files else "0")
        )
    with open(os.path.join(folder, "storage-schemas.conf"), "w", encoding="utf-8") as file:
        file.write(SCHEMAS)
    program = shutil.which("carbon-cache") or shutil.which("carbon-cache.py") or "carbon-cache"
    os.execv(program, [program, "--config=" + configuration, "--nodaemon", "start"])


if __name__ == "__main__":
    main(int(sys.argv[1]), with_files="files" in sys.argv[2:])
