"""A gRPC server by `grpcio`: on TERM it sends GOAWAY and finishes what is in flight.

Messages are bytes. /demo/Unary answers the Pod's name; /demo/Stream is asked "COUNT GAP" and sends
so many.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import grpc

_POD = os.environ.get("HOSTNAME", "").encode()


async def _unary(_request: bytes, _context: "grpc.aio.ServicerContext") -> bytes:
    return _POD


async def _stream(request: bytes, _context: "grpc.aio.ServicerContext") -> AsyncIterator[bytes]:
    count, gap = request.split()
    for number in range(int(count)):
        if number:
            await asyncio.sleep(float(gap))
        yield str(number).encode()


async def _main() -> None:
    server = grpc.aio.server()
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Stream": grpc.unary_stream_rpc_method_handler(_stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("demo", methods)])
    server.add_insecure_port("[::]:8080")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(grace=25)


asyncio.run(_main())
