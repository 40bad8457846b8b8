"""The Workload API as a bare gRPC client sees it, without a SPIFFE library: status code and text of one call.

  workload_raw.py SOCKET METHOD [NAME=VALUE ...]
"""

import json
import sys

import grpc

socket, method = sys.argv[1:3]
metadata = [tuple(pair.split("=", 1)) for pair in sys.argv[3:]]
with grpc.insecure_channel(socket) as channel:
    call = channel.unary_stream(method)(b"", metadata=metadata, timeout=5)
    code, details, size = "OK", "", 0
    try:
        size = len(next(call))
        call.cancel()
    except StopIteration:
        pass
    except grpc.RpcError as error:
        code, details = error.code().name, error.details()
    print(json.dumps({"code": code, "details": details, "bytes": size}), flush=True)
