"""A WebSocket through the gateway over mutual TLS: sends messages, checks the echoes, then waits for the end.

  ws_client.py ADDRESS TLS_DIR PATH stay|leave [SIZE ...]

Prints one JSON line when it is open and all echoes came, and one when it ended.
"""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

address, tls, path, manner = sys.argv[1:5]
sizes = [int(size) for size in sys.argv[5:]]


def say(**event):
    print(json.dumps(event), flush=True)


async def main():
    context = ssl.create_default_context(cafile=f"{tls}/bundle.pem")
    context.load_cert_chain(f"{tls}/svid.pem", f"{tls}/svid.key")
    port = address.rsplit(":", 1)[1]
    try:
        async with connect(f"wss://localhost:{port}{path}", ssl=context, proxy=None, max_size=None) as socket:
            for size in sizes:
                message = bytes(number % 251 for number in range(size))
                await socket.send(message)
                assert await socket.recv() == message, size
            say(open=True, echoes=len(sizes))
            if manner == "stay":
                await asyncio.wait_for(socket.recv(), 30)
        say(ended="clean")
    except InvalidStatus as refused:
        say(status=refused.response.status_code)
    except ConnectionClosed as closed:
        say(ended="cut", code=closed.rcvd.code if closed.rcvd else None)


asyncio.run(main())
