"""A gRPC service over h2c, with bytes as messages. Prints its port, then one JSON line per call that arrives."""

import json
import threading
import time
from concurrent import futures

import grpc

lock = threading.Lock()


def say(**event):
    with lock:
        print(json.dumps(event), flush=True)


def get(request, context):
    context.send_initial_metadata((("served-by", "orders"),))
    context.set_trailing_metadata((("order-note", "fresh"), ("order-bin", b"\x00\x01\xff")))
    return b"order " + request


def upload(requests, context):
    parts = list(requests)
    return f"{len(parts)} parts, {sum(map(len, parts))} bytes".encode()


def listing(request, context):
    for number in range(int(request)):
        yield f"item {number}".encode()


def chat(requests, context):
    for request in requests:
        yield b"echo " + request


def fail(request, context):
    context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05\x12\x04gone"), ("order-note", "failed")))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such order: 100 % \u00fc")


def slow(request, context):
    began = time.monotonic()
    say(slow="begun", remaining=context.time_remaining())
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(20)
    say(slow="ended", after=time.monotonic() - began)
    return b"late"


UNARY = grpc.unary_unary_rpc_method_handler
METHODS = {
    "/shop.Orders/Get": UNARY(get),
    "/shop.Orders/Upload": grpc.stream_unary_rpc_method_handler(upload),
    "/shop.Orders/List": grpc.unary_stream_rpc_method_handler(listing),
    "/shop.Orders/Chat": grpc.stream_stream_rpc_method_handler(chat),
    "/shop.Orders/Fail": UNARY(fail),
    "/shop.Orders/Slow": UNARY(slow),
    "/shop.Orders/Refund": UNARY(get),
    "/shop.Orders/Unregistered": UNARY(get),
}


class Orders(grpc.GenericRpcHandler):
    def service(self, details):
        metadata = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}
        say(call=details.method, metadata=metadata)
        return METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(8), handlers=(Orders(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
say(port=port)
server.wait_for_termination()
