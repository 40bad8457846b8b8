"""SDS and server reflection on the socket of the Workload API, with grpcio and the checked-in descriptors.

  sds_client.py SOCKET DESCRIPTORS STEPS
  sds_client.py SOCKET reflection

STEPS is a JSON list, run in order on one channel; each prints one JSON object:
  ["open", METHOD, REQUEST]   opens StreamSecrets or DeltaSecrets and sends the first request
  ["send", REQUEST]           sends another; "NONCE" in it stands for the nonce of the last response
  ["next", SECONDS]           the next response, its end, or {"silent": true}
  ["fetch", REQUEST]          FetchSecrets
Secrets are told by name, kind and digest of their content; keys are not printed. `reflection` prints what the server says
of itself: its services, and the methods that it describes.
"""

import hashlib
import json
import queue
import sys
import threading

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"


def say(**event):
    print(json.dumps(event), flush=True)


def reflection(channel):
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    database = ProtoReflectionDescriptorDatabase(channel)
    say(services=sorted(database.get_services()))
    pool = descriptor_pool.DescriptorPool(database)
    for name in (SERVICE, "SpiffeWorkloadAPI"):
        found = pool.FindServiceByName(name)
        say(service=name, methods={method.name: method.input_type.full_name for method in found.methods})


class Client:
    def __init__(self, channel, descriptors):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool()
        with open(descriptors, "rb") as file:
            for file in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
                self.pool.Add(file)
        self.nonce, self.requests, self.responses = "", None, None

    def kind(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def request(self, kind, fields):
        text = json.dumps(fields).replace('"NONCE"', json.dumps(self.nonce))
        return json_format.Parse(text, kind(), descriptor_pool=self.pool).SerializeToString()

    def kinds(self, method):
        found = self.pool.FindServiceByName(SERVICE).FindMethodByName(method)
        return self.kind(found.input_type.full_name), self.kind(found.output_type.full_name)

    def open(self, method, fields):
        self.sends, self.reads = self.kinds(method)
        self.requests, self.responses = queue.Queue(), queue.Queue()
        self.send(fields)
        call = self.channel.stream_stream(f"/{SERVICE}/{method}")(iter(self.requests.get, None))
        threading.Thread(target=self.read, args=(call, self.responses), daemon=True).start()
        say(opened=method)

    def read(self, call, responses):
        try:
            for response in call:
                responses.put(response)
            responses.put({"end": "OK"})
        except grpc.RpcError as error:
            responses.put({"end": error.code().name, "details": error.details()})

    def send(self, fields):
        self.requests.put(self.request(self.sends, fields))

    def next(self, seconds):
        try:
            response = self.responses.get(timeout=seconds)
        except queue.Empty:
            return say(silent=True)
        say(**(response if isinstance(response, dict) else self.told(self.reads.FromString(response))))

    def fetch(self, fields):
        sends, reads = self.kinds("FetchSecrets")
        try:
            answer = self.channel.unary_unary(f"/{SERVICE}/FetchSecrets")(self.request(sends, fields), timeout=10)
            say(**self.told(reads.FromString(answer)))
        except grpc.RpcError as error:
            say(end=error.code().name, details=error.details())

    def told(self, response):
        self.nonce = response.nonce
        secrets = []
        for resource in response.resources:
            value = getattr(resource, "resource", resource)
            secret = self.kind("envoy.extensions.transport_sockets.tls.v3.Secret").FromString(value.value)
            of = {
                "name": secret.name,
                "kind": secret.WhichOneof("type"),
                "digest": hashlib.sha256(value.value).hexdigest(),
            }
            context = secret.validation_context
            if of["kind"] == "validation_context":
                of["validator"] = context.custom_validator_config.name
                of["plain"] = context.trusted_ca.inline_bytes.decode()
            secrets.append(of)
        version = getattr(response, "version_info", "") or getattr(response, "system_version_info", "")
        removed = list(getattr(response, "removed_resources", []))
        return {"secrets": secrets, "version": version, "nonce": response.nonce, "removed": removed}


with grpc.insecure_channel(sys.argv[1]) as channel:
    if sys.argv[2] == "reflection":
        reflection(channel)
    else:
        client = Client(channel, sys.argv[2])
        for step, *arguments in json.loads(sys.argv[3]):
            getattr(client, step)(*arguments)
