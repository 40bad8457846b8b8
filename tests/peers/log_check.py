"""Checks the decision log with nothing of ours: RFC 6962 hashes, C2SP signed notes, tlog-proof and tlog-tiles.

    log_check.py proof FILE KEY       a proof file
    log_check.py tiles DIR KEY        the tiles of a copied ledger directory against its checkpoint
    log_check.py bundle FILE KEY      an export with proofs: records, and the policies that judged them

KEY is a file with the verifier key. Prints one JSON object; the exit code is 0 when everything holds.
"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha(data):
    return hashlib.sha256(data).digest()


def node(left, right):
    return sha(b"\x01" + left + right)


def open_note(note, vkey):
    name, key_id, key = vkey.strip().split("+", 2)
    key = base64.b64decode(key, validate=True)
    assert key[0] == 1 and len(key) == 33, "no Ed25519 key"
    assert sha(name.encode() + b"\n" + key)[:4].hex() == key_id, "the key id is wrong"
    text, lines = note.rsplit("\n\n", 1)
    text += "\n"
    for line in lines.splitlines():
        dash, signer, blob = line.split(" ")
        assert dash == "\u2014", "no signature line"
        blob = base64.b64decode(blob, validate=True)
        if signer == name and blob[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(blob[4:], text.encode())
            origin, size, root, end = text.split("\n")
            assert origin == name and end == ""
            return int(size), base64.b64decode(root, validate=True)
    raise AssertionError("the key has not signed it")


def check_inclusion(leaf, index, path, size, root):
    """RFC 9162 2.1.3.2."""
    assert index < size, "the index is behind the tree"
    at, last, found = index, size - 1, leaf
    for other in path:
        assert last > 0, "the path is too long"
        if at & 1 or at == last:
            found = node(other, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, other)
        at, last = at >> 1, last >> 1
    assert last == 0 and found == root, "the path does not lead to the root"


def proof(file, vkey):
    head, note = file.read_text().split("\n\n", 1)
    header, extra, index, *path = head.split("\n")
    assert header == "c2sp.org/tlog-proof@v1"
    leaf = base64.b64decode(extra.removeprefix("extra "), validate=True)
    index = int(index.removeprefix("index "))
    size, root = open_note(note, vkey)
    path = [base64.b64decode(line, validate=True) for line in path]
    check_inclusion(sha(b"\x00" + leaf), index, path, size, root)
    return {"index": index, "size": size}


def tile_path(index):
    path = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        path = f"x{index % 1000:03}/{path}"
    return path


def tree(hashes):
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(tree(hashes[:split]), tree(hashes[split:]))


def tiles(directory, vkey):
    size, root = open_note((directory / "checkpoint").read_text(), vkey)
    levels, count, level = [], size, 0
    while count:
        hashes = []
        for index in range((count + 255) // 256):
            width = min(256, count - index * 256)
            path = directory / "tile" / str(level) / tile_path(index)
            data = (path if path.exists() else pathlib.Path(f"{path}.p/{width}")).read_bytes()
            assert len(data) >= width * 32, "a tile is short"
            hashes += [data[at : at + 32] for at in range(0, width * 32, 32)]
        levels.append(hashes)
        count, level = count // 256, level + 1
    assert tree(levels[0]) == root, "the tiles do not give the root"
    for below, above in zip(levels, levels[1:]):
        for index, found in enumerate(above):
            assert tree(below[index * 256 : (index + 1) * 256]) == found, "a tile does not stand above the other"
    return {"size": size, "levels": len(levels)}


def cbor(data, at=0):
    """One value of deterministic CBOR (RFC 8949 4.2.1): integers, bytes, text, arrays, maps, booleans."""
    major, value = data[at] >> 5, data[at] & 31
    at += 1
    if value >= 24 and major != 7:
        width = 1 << (value - 24)
        value = int.from_bytes(data[at : at + width], "big")
        at += width
    if major in (0, 1):
        return (value if major == 0 else -1 - value), at
    if major in (2, 3):
        raw = data[at : at + value]
        return (raw if major == 2 else raw.decode()), at + value
    if major == 4:
        items = []
        for _ in range(value):
            item, at = cbor(data, at)
            items.append(item)
        return items, at
    if major == 5:
        members = {}
        for _ in range(value):
            key, at = cbor(data, at)
            members[key], at = cbor(data, at)
        return members, at
    assert major == 7 and value in (20, 21), "no CBOR of ours"
    return value == 21, at


def sized(text):
    raw = text.encode()
    return len(raw).to_bytes(8, "big") + raw


def bundle(file, vkey):
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    head, *body, end = lines
    assert head["kind"] == "DecisionBundle" and end["kind"] == "End", "it was cut off"
    signed, last, effects, judged, texts = None, -1, [], set(), {}
    for line in body:
        if line["kind"] == "Checkpoint":
            signed = open_note(line["note"], vkey)
        elif line["kind"] == "Entry":
            leaf, index = base64.b64decode(line["leaf"], validate=True), int(line["index"])
            path = [base64.b64decode(other, validate=True) for other in line["path"]]
            check_inclusion(sha(b"\x00" + leaf), index, path, *signed)
            assert index > last, "the order is wrong"
            last = index
            record, stop = cbor(leaf)
            assert stop == len(leaf), "something follows the record"
            effects.append(record.get(6))
            if 20 in record:
                judged.add(record[20]["manifest"].hex())
        else:
            files = [sha(sized(part["file"]) + sized(part["text"])) for part in line["files"]]
            texts[sha(b"".join(files)).hex()] = line["version"]
    assert end["entries"] == len(effects) and end["policies"] == len(texts), "something is missing"
    assert judged <= set(texts), "policies are missing, or others than those that judged"
    return {"entries": len(effects), "denied": effects.count(0), "versions": sorted(texts.values())}


def main():
    kind, what, key = sys.argv[1:]
    check = {"proof": proof, "tiles": tiles, "bundle": bundle}[kind]
    try:
        print(json.dumps({"ok": True} | check(pathlib.Path(what), pathlib.Path(key).read_text())))
    except (AssertionError, InvalidSignature, LookupError, TypeError, ValueError) as error:
        print(json.dumps({"ok": False, "why": str(error) or type(error).__name__}))


main()
