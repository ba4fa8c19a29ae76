"""The asyncio peer on uvloop, an event loop in C.

python3 bench/peers/uvloop_protocol.py PORT
"""

import sys

import uvloop
from asyncio_protocol import serve

if __name__ == "__main__":
    uvloop.new_event_loop().run_until_complete(serve(int(sys.argv[1])))
