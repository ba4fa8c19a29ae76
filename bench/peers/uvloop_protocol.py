"""The asyncio peer on uvloop, an event loop in C.

python3 bench/peers/uvloop_protocol.py PORT
"""

import asyncio
import sys

import uvloop
from asyncio_protocol import serve

if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(int(sys.argv[1])))
