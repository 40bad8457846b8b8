#!/usr/bin/env python3
"""Writes portcullis.cdx.json: what the binary is made of (CycloneDX 1.6), as Cargo.lock has it. The binary carries this file
(`portcullis version --sbom`) and tells its digest. `--check` writes nothing and ends with 1 where the file is old; `--report` prints how
many packages there are and which exist in several versions.

In it is what is linked into the binary on x86-64 Linux, and the procedural macros that wrote parts of it. Build scripts, tests and what
other platforms need are not. Nothing in it depends on when or where it was made."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import uuid
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FILE = HERE / "portcullis.cdx.json"
TARGET = "x86_64-unknown-linux-gnu"


def tree():
    """Lines of `cargo tree`: depth, name, version, whether it is a macro, licence."""
    words = ["cargo", "tree", "--locked", "-p", "portcullis", "--edges", "normal", "--target", TARGET]
    told = subprocess.run([*words, "--prefix", "depth", "--format", "|{p}|{l}"], cwd=ROOT, capture_output=True, text=True)
    if told.returncode != 0:
        sys.exit(told.stderr)
    for line in told.stdout.splitlines():
        depth, package, licence = line.split("|")
        name, version = package.split(" ")[:2]
        yield int(depth), name, version[1:], "(proc-macro)" in package, licence.removesuffix(" (*)")


def read():
    """Every package by name and version, and what it needs."""
    locked = {(package["name"], package["version"]): package for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    packages, needs, path = {}, defaultdict(set), []
    for depth, name, version, is_macro, licence in tree():
        package = (name, version)
        del path[depth:]
        if path:
            needs[path[-1]].add(package)
        path.append(package)
        packages.setdefault(package, (is_macro, licence, locked[package].get("checksum")))
    return packages, needs


def reference(package):
    return "pkg:cargo/{}@{}".format(*package)


def component(package, is_macro, licence, checksum):
    name, version = package
    told = {"type": "library", "bom-ref": reference(package), "name": name, "version": version}
    if is_macro:
        told["scope"] = "excluded"
    if licence:
        told["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if checksum:
        told |= {"hashes": [{"alg": "SHA-256", "content": checksum}], "purl": reference(package)}
    return told


def document():
    packages, needs = read()
    ours = next(package for package in packages if package[0] == "portcullis")
    components = [component(package, *about) for package, about in sorted(packages.items()) if package != ours]
    told = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": reference(ours), "name": ours[0], "version": ours[1], "licenses": [{"expression": packages[ours][1]}]},
            "properties": [{"name": "portcullis:target", "value": TARGET}],
        },
        "components": components,
        "dependencies": [
            {"ref": reference(package), "dependsOn": sorted(reference(need) for need in needs[package])} for package in sorted(packages)
        ],
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return {"serialNumber": uuid.UUID(digest[:32], version=4).urn} | told


def written(told):
    """One line for each component and dependency, so that a change reads well."""
    text = json.dumps(told, indent=1, sort_keys=True)
    return re.sub(r"\n {3,}(?=\S)", " ", re.sub(r"\n  (?=[\]}])", " ", text)) + "\n"


def report(told):
    versions = defaultdict(list)
    for part in told["components"]:
        versions[part["name"]].append(part["version"])
    several = {name: found for name, found in versions.items() if len(found) > 1}
    macros = sum(part.get("scope") == "excluded" for part in told["components"])
    ours = sum("purl" not in part for part in told["components"])
    print(f"{len(told['components'])} packages besides the binary: {ours} of this repository, {macros} macros")
    print(f"{len(several)} of them in several versions")
    for name, found in several.items():
        print(f"  {name} {', '.join(found)}")


made = document()
if sys.argv[1:] == ["--report"]:
    report(made)
elif sys.argv[1:] == ["--check"]:
    if not FILE.exists() or FILE.read_text() != written(made):
        sys.exit(f"{FILE.name} is old: python3 deploy/sbom/generate.py")
else:
    FILE.write_text(written(made))
