"""A small stand-in for Docker: reads a compose file and the Dockerfile that it builds from, refuses what it does not know, and runs
the services. Those of our own image have ROOT as their file system; the others, whose image nobody has here, are programs of this
host. Run in a `room`, whose files it may change.

  compose.py COMPOSE_FILE ROOT

Starts what has no profile, each service when those it depends on are healthy; then runs the services of a profile to their end,
and what it is given on stdin, one command of our binary per line. Prints a line of JSON per step.
"""

import fcntl
import json
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
import time

import yaml

SERVICE = {
    "build", "image", "hostname", "read_only", "cap_drop", "security_opt", "volumes", "ports", "command", "environment", "pid",
    "group_add", "healthcheck", "depends_on", "profiles", "user", "entrypoint",
}
PATIENCE = 60
ADDRESS = "172.18.0.2"


def say(**event):
    print(json.dumps(event), flush=True)


def known(what, keys, allowed):
    assert set(keys) <= allowed, f"{what}: unknown {set(keys) - allowed}"


def dockerfile(path):
    """The instructions of the last stage, and the words of all."""
    text = re.sub(r"\\\n", " ", open(path).read())
    stage, words = {}, []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, rest = line.split(None, 1)
        known(path, [name], {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"})
        if name == "FROM":
            stage = {}
        if name == "RUN":
            words += rest.split()
        stage[name] = rest
    listed = {name: json.loads(stage[name]) for name in ("ENTRYPOINT", "CMD", "VOLUME")}
    check = stage["HEALTHCHECK"].split("CMD", 1)[1]
    return listed | {"USER": stage["USER"], "ENV": dict([stage["ENV"].split("=")]), "HEALTHCHECK": json.loads(check), "words": words}


class Service:
    def __init__(self, name, about, project, root, image, ours):
        known(name, about, SERVICE)
        self.name, self.about, self.project, self.ours = name, about, project, ours
        self.image = image if ours else {"ENTRYPOINT": [], "CMD": [], "VOLUME": [], "USER": "0:0", "ENV": {}, "HEALTHCHECK": None}
        self.root = self.files(root) if ours else "/"
        for volume in about.get("volumes", []):
            source, target, *flags = volume.split(":")
            known(name, flags, {"ro"})
            self.mount(self.source(source, target, root), target, "ro" in flags)
        if ours and about.get("read_only"):
            run("mount", "-o", "remount,bind,ro", self.root)

    def files(self, root):
        """The image's own, mounted once for each service."""
        place = f"/tmp/services/{self.name}"
        os.makedirs(place)
        open(f"{root}/etc/hosts", "a").close()
        open(f"{root}/etc/resolv.conf", "w").write("nameserver 127.0.0.1\n")
        run("mount", "--bind", root, place)
        run("mount", "--rbind", "/dev", f"{place}/dev")
        run("mount", "--bind", "/etc/hosts", f"{place}/etc/hosts")
        return place

    def source(self, source, target, root):
        if source.startswith("."):
            path = os.path.normpath(os.path.join(self.project, source))
            assert os.path.exists(path), f"{self.name}: no {path}"
            return path
        path = f"/tmp/volumes/{source}"
        assert source in volumes, f"{self.name}: no volume {source}"
        if not os.path.exists(path):
            # A new volume is as the image has that directory.
            assert self.ours, f"{self.name} would be the first to have {source}"
            os.makedirs("/tmp/volumes", exist_ok=True)
            run("cp", "-a", f"{root}{target}", path)
        return path

    def mount(self, source, target, read_only):
        place = f"/tmp/services/{self.name}{target}" if self.ours else target
        if not self.ours:
            os.makedirs(place, exist_ok=True)
        assert os.path.isdir(place), f"{self.name}: the image has no {target}"
        run("mount", "--bind", source, place)
        if read_only:
            run("mount", "-o", "remount,bind,ro", place)

        user, *group = about.get("user", self.image["USER"]).split(":")
        self.user, self.group = user, (group or [user])[0]

    def environment(self):
        told = self.image["ENV"] | self.about.get("environment", {})
        return ["env", *(["-i"] if self.ours else []), *(f"{name}={value}" for name, value in told.items())]

    def command(self):
        """What the service runs."""
        entry = self.about.get("entrypoint", self.image["ENTRYPOINT"])
        groups = ",".join(self.about.get("group_add", [self.group]))
        chroot = ["/usr/sbin/chroot", f"--userspec={self.user}:{self.group}", f"--groups={groups}", self.root]
        return [*self.environment(), *chroot, *entry, *self.about.get("command", self.image["CMD"])]

    def start(self, services):
        about = self.about
        for name, wanted in about.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}, wanted
            services[name].until_healthy()
        words = shlex.join(self.command())
        proc = f"mount -t proc proc {self.root}/proc && " if self.ours else ""
        script = f"{proc}exec setpriv --no-new-privs {words}"
        if "pid" in about:
            shared = services[about["pid"].removeprefix("service:")]
            space = ["nsenter", f"--pid=/proc/{shared.first()}/ns/pid", "unshare", "--mount"]
        elif self.ours:
            space = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        else:
            space = []
        self.log = open(f"/tmp/{self.name}.log", "w+")
        self.process = subprocess.Popen([*space, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        say(started=self.name, runs=words)

    def first(self):
        """The process of its binary, as seen from here."""
        end = time.monotonic() + 5
        while not (children := open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split()):
            assert time.monotonic() < end and self.process.poll() is None, f"{self.name} does not start"
            time.sleep(0.05)
        return int(children[0])

    def inside(self, words):
        """A command as `docker exec` runs it."""
        if not self.ours:
            return subprocess.run(words, capture_output=True, text=True)
        first = self.first()
        space = ["/usr/bin/nsenter", f"--target={first}", "--mount", "--pid", f"--root=/proc/{first}/root"]
        users = [f"--setuid={self.user}", f"--setgid={self.group}"]
        return subprocess.run([*self.environment(), *space, *users, *words], capture_output=True, text=True)

    def until_healthy(self):
        check = self.about.get("healthcheck", {}).get("test") or ["CMD", *self.image["HEALTHCHECK"]]
        assert check[0] == "CMD", check
        end = time.monotonic() + PATIENCE
        while (answer := self.inside(check[1:])).returncode != 0:
            if time.monotonic() > end or self.process.poll() is not None:
                self.log.seek(0)
                raise AssertionError(f"{self.name} is not healthy: {answer.stdout}{answer.stderr}\n{self.log.read()}")
            time.sleep(0.2)
        say(healthy=self.name)


def run(*words):
    subprocess.run(words, check=True)


file, root = sys.argv[1:]
project = os.path.dirname(os.path.abspath(file))
composed = yaml.safe_load(open(file))
known(file, composed, {"services", "volumes"})
volumes = composed["volumes"]
build = next(about["build"] for about in composed["services"].values() if "build" in about)
known("build", build, {"context", "dockerfile"})
source = os.path.normpath(os.path.join(project, build["context"]))
image = dockerfile(os.path.join(source, build["dockerfile"]))
for word in image["words"]:
    assert not word.startswith("deploy/") or os.access(os.path.join(source, word), os.X_OK), f"no {word}"
for place in image["VOLUME"]:
    assert os.path.isdir(root + place), f"the image has no {place}"

with open("/etc/hosts", "a") as hosts:
    hosts.write("".join(f"{ADDRESS} {name}\n" for name in composed["services"]))
# All services are in one network, at an address as Docker gives them, which its server of names tells.
request = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8916, request)  # SIOCSIFADDR
with open("/tmp/names", "w") as zone:
    json.dump({name: {"addresses": [ADDRESS], "ttl": 60} for name in composed["services"]}, zone)
peers = os.path.dirname(os.path.abspath(__file__))
subprocess.Popen([sys.executable, f"{peers}/dns.py", "53", "/tmp/names"], stdout=subprocess.DEVNULL)
services = {}
for name, about in composed["services"].items():
    services[name] = Service(name, about, project, root, image, about["image"] == "portcullis")
for service in services.values():
    if "profiles" not in service.about:
        service.start(services)
for service in services.values():
    if "profiles" in service.about:
        for name in service.about["depends_on"]:
            services[name].until_healthy()
        done = subprocess.run(service.command(), capture_output=True, text=True)
        say(ran=service.name, code=done.returncode, told=done.stdout + done.stderr)
for line in sys.stdin:
    name, *words = line.split()
    done = services[name].inside(words)
    say(inside=name, code=done.returncode, told=done.stdout + done.stderr)
for service in services.values():
    if "profiles" not in service.about and service.ours:
        if "pid" not in service.about:
            os.kill(service.first(), 15)
            say(ended=service.name, code=service.process.wait(30))
