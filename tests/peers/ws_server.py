"""An echoing WebSocket server. Prints its port, then one JSON line per connection and per end."""

import asyncio
import json

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError


def say(**event):
    print(json.dumps(event), flush=True)


async def echo(connection):
    say(peer=connection.request.headers.get("portcullis-peer"), path=connection.request.path)
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosedError:
        pass
    say(closed=connection.close_code)


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        say(port=server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())
