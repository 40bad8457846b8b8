"""Health and reflection of a gRPC server with grpcio, knowing nothing of it but the reflection protocol.

  health_client.py TARGET [check]

Prints one JSON object per line: services listed; checks of the process, of Changes and of an unknown service; then,
without `check`, each status of a watch of the process until it serves, and the ids of Policies/List.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

pool = descriptor_pool.DescriptorPool()
own = descriptor_pb2.FileDescriptorProto(name="own.proto", package="own", syntax="proto3")
TEXT, BYTES, MESSAGE, ONE, MANY = 9, 12, 11, 1, 3


def message(name, *fields):
    added = own.message_type.add(name=name)
    for field, number, kind, label, of in fields:
        added.field.add(name=field, number=number, type=kind, label=label, type_name=of)


# The parts of grpc.reflection.v1 that are asked for.
message("Ask", ("symbol", 4, TEXT, ONE, None), ("list", 7, TEXT, ONE, None))
message("Files", ("files", 1, BYTES, MANY, None))
message("Service", ("name", 1, TEXT, ONE, None))
message("Services", ("services", 1, MESSAGE, MANY, ".own.Service"))
message("Answer", ("files", 4, MESSAGE, ONE, ".own.Files"), ("list", 6, MESSAGE, ONE, ".own.Services"))
pool.Add(own)


def of(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def say(**what):
    print(json.dumps(what), flush=True)


target = sys.argv[1]
options = (("grpc.enable_retries", 0), ("grpc.default_authority", "localhost"))
with grpc.insecure_channel(target, options) as channel:
    reflect = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda asked: asked.SerializeToString(),
        response_deserializer=of("own.Answer").FromString,
    )

    def ask(**asked):
        return next(iter(reflect(iter([of("own.Ask")(**asked)]), timeout=30)))

    say(services=sorted(service.name for service in ask(list="*").list.services))
    for symbol in ("grpc.health.v1.Health", "portcullis.policies.v1.Policies"):
        for file in ask(symbol=symbol).files.files:
            pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file))

    def call(path, kind="unary_unary"):
        service, name = path.split("/")
        method = pool.FindServiceByName(service).FindMethodByName(name)
        answer = message_factory.GetMessageClass(method.output_type)
        return message_factory.GetMessageClass(method.input_type), getattr(channel, kind)(
            "/" + path,
            request_serializer=lambda asked: asked.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    statuses = pool.FindEnumTypeByName("grpc.health.v1.HealthCheckResponse.ServingStatus").values_by_number
    asked, check = call("grpc.health.v1.Health/Check")

    def status(service):
        try:
            return statuses[check(asked(service=service), timeout=30).status].name
        except grpc.RpcError as error:
            return error.code().name

    say(checks=[status(name) for name in ("", "portcullis.policies.v1.Changes", "shop.Orders")])
    if len(sys.argv) < 3:
        asked, watch = call("grpc.health.v1.Health/Watch", "unary_stream")
        for told in watch(asked(service=""), timeout=30):
            name = statuses[told.status].name
            say(watch=name)
            if name == "SERVING":
                break
        asked, policies = call("portcullis.policies.v1.Policies/List")
        say(policies=[policy.id for policy in policies(asked(), timeout=30).items])
