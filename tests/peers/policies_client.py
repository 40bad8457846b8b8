"""Calls of portcullis.policies.v1 over the admin socket, with grpcio and the checked-in descriptors.

  policies_client.py SOCKET DESCRIPTORS CALLS [UID]

CALLS is a JSON list of [method, request] or [method, request, metadata], method such as Changes/Create. Prints one JSON
object for each, asked as that user: code, details, message, infos and violations of the status, trailing metadata.
"""

import json
import os
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

socket, descriptors, calls = sys.argv[1:4]
PACKAGE = "portcullis.policies.v1"

with open(descriptors, "rb") as file:
    files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
pool = descriptor_pool.DescriptorPool()
for file in files.file:
    pool.Add(file)

# The three messages of google.rpc that a refusal carries.
rpc = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="google.rpc", syntax="proto3")


def message(name, *fields):
    added = rpc.message_type.add(name=name)
    for number, (field, kind, label, of) in enumerate(fields, 1):
        added.field.add(name=field, number=number, type=kind, label=label, type_name=of)
    return added


TEXT, BYTES, NUMBER, MESSAGE, ONE, MANY = 9, 12, 5, 11, 1, 3
message("Any", ("type_url", TEXT, ONE, None), ("value", BYTES, ONE, None))
message(
    "Status",
    ("code", NUMBER, ONE, None),
    ("message", TEXT, ONE, None),
    ("details", MESSAGE, MANY, ".google.rpc.Any"),
)
message("Pair", ("key", TEXT, ONE, None), ("value", TEXT, ONE, None))
message(
    "ErrorInfo",
    ("reason", TEXT, ONE, None),
    ("domain", TEXT, ONE, None),
    ("metadata", MESSAGE, MANY, ".google.rpc.Pair"),
)
message("Violation", ("field", TEXT, ONE, None), ("description", TEXT, ONE, None))
message("BadRequest", ("field_violations", MESSAGE, MANY, ".google.rpc.Violation"))
pool.Add(rpc)


def of(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def refusal(data):
    told = {"infos": [], "violations": []}
    for detail in of("google.rpc.Status").FromString(data).details:
        name = detail.type_url.split("/")[-1]
        read = of(name).FromString(detail.value)
        if name == "google.rpc.ErrorInfo":
            pairs = {pair.key: pair.value for pair in read.metadata}
            told["infos"].append({"reason": read.reason, "domain": read.domain, "metadata": pairs})
        else:
            told["violations"].extend([each.field, each.description] for each in read.field_violations)
    return told


# The path of a socket is no authority, and would be sent as one.
options = (("grpc.enable_retries", 0), ("grpc.default_authority", "localhost"))
with grpc.insecure_channel(f"unix:{socket}", options) as channel:
    # The modules are loaded, and nothing is connected yet.
    if len(sys.argv) > 4:
        os.setgid(int(sys.argv[4]))
        os.setuid(int(sys.argv[4]))
    for method, request, *metadata in json.loads(calls):
        service, name = method.split("/")
        about = pool.FindServiceByName(f"{PACKAGE}.{service}").FindMethodByName(name)
        answer = message_factory.GetMessageClass(about.output_type)
        asked = json_format.ParseDict(request, message_factory.GetMessageClass(about.input_type)())
        call = channel.unary_unary(
            f"/{PACKAGE}.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        sent = call.future(asked, timeout=30, metadata=tuple((metadata or [{}])[0].items()))
        result = {}
        try:
            result["message"] = json_format.MessageToDict(
                sent.result(), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        except grpc.RpcError:
            pass
        result["code"], result["details"] = sent.code().name, sent.details()
        result["trailing"] = {
            key: value for key, value in sent.trailing_metadata() or () if isinstance(value, str)
        }
        for key, value in sent.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                result.update(refusal(value))
        print(json.dumps(result), flush=True)
