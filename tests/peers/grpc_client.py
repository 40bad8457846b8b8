"""One gRPC call over mutual TLS, with bytes as messages. Prints what came of it as one JSON object.

  grpc_client.py ADDRESS TLS_DIR KIND METHOD DEADLINE [MESSAGE ...]

TLS_DIR is `plain` for a call without TLS.

KIND is unary, upload, listing or chat. In a chat each message is sent only after the answer to the one before came.
"""

import json
import queue
import sys

import grpc

address, tls, kind, method, deadline = sys.argv[1:6]
messages = [message.encode() for message in sys.argv[6:]]


def read(name):
    with open(f"{tls}/{name}", "rb") as file:
        return file.read()


def fields(data):
    """The fields of a protobuf message as (number, value); enough for google.rpc.Status."""

    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        elif key & 7 == 2:
            size, at = varint(at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {key & 7}")
        yield key >> 3, value


def error_infos(status):
    for number, any_ in fields(status):
        if number == 3:
            parts = dict(fields(any_))
            if parts[1] == b"type.googleapis.com/google.rpc.ErrorInfo":
                info = {1: b"", 2: b""}
                metadata = {}
                for part, value in fields(parts[2]):
                    if part == 3:
                        pair = dict(fields(value))
                        metadata[pair[1].decode()] = pair[2].decode()
                    else:
                        info[part] = value
                yield {"reason": info[1].decode(), "domain": info[2].decode(), "metadata": metadata}


def shown(metadata):
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in metadata or ()}


def send(waiting):
    while (message := waiting.get()) is not None:
        yield message


options = (("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_retries", 0))
result = {"messages": []}
def opened():
    if tls == "plain":
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(read("bundle.pem"), read("svid.key"), read("svid.pem"))
    return grpc.secure_channel(address, credentials, options)


with opened() as channel:
    timeout = float(deadline)
    metadata = (("caller-note", "hello"), ("caller-bin", b"\x01\x02"))
    waiting = queue.Queue()
    if kind in ("unary", "upload"):
        if kind == "unary":
            call = channel.unary_unary(method).future(messages[0], timeout=timeout, metadata=metadata)
        else:
            call = channel.stream_unary(method).future(iter(messages), timeout=timeout, metadata=metadata)
        try:
            result["messages"].append(call.result().decode())
        except grpc.RpcError:
            pass
    else:
        if kind == "listing":
            call = channel.unary_stream(method)(messages[0], timeout=timeout, metadata=metadata)
        else:
            call = channel.stream_stream(method)(send(waiting), timeout=timeout, metadata=metadata)
        try:
            if kind == "listing":
                result["messages"].extend(message.decode() for message in call)
            else:
                for message in messages:
                    waiting.put(message)
                    result["messages"].append(next(call).decode())
                waiting.put(None)
                for message in call:
                    result["messages"].append(message.decode())
        except grpc.RpcError:
            waiting.put(None)
    result["code"] = call.code().name
    result["details"] = call.details()
    result["initial"] = shown(call.initial_metadata())
    result["trailing"] = shown(call.trailing_metadata())
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            result["infos"] = list(error_infos(value))
print(json.dumps(result), flush=True)
