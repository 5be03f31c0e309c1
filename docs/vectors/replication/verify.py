#!/usr/bin/env python3
"""Checks an append request and the cosignature that answered it from docs/replication.md alone, with nothing but Python's standard library.

usage: verify.py vectors.json LOG

LOG is the file of the lines before and after the request. Exit code 0: all is as described; 1: it is not.
"""
import base64
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "audit-log"))
from verify import ed25519_verify, open_checkpoint, parse_line, sha256, tree_hash, verify_log  # noqa: E402


def parse_append(body):
    """Returns (old, lines, checkpoint)."""
    head = re.match(rb"aes-append/1\nold (0|[1-9][0-9]{0,18})\nlines (0|[1-9][0-9]{0,6})\n\n", body)
    if not head:
        raise ValueError("no head of an append")
    old, length = int(head.group(1)), int(head.group(2))
    lines, note = body[head.end():head.end() + length], body[head.end() + length:]
    if old >= 2**63 or length > 1 << 20 or len(lines) < length or (lines and not lines.endswith(b"\n")) or not 1 <= len(note) <= 2048:
        raise ValueError("not an append")
    return old, lines, note


def objects_of(value):
    """Returns the objects that details name."""
    found = []
    if isinstance(value, list):
        for member in value:
            found += objects_of(member)
    if isinstance(value, dict):
        for key, member in value.items():
            if (key == "object" or key.endswith("_object")) and isinstance(member, str) and re.fullmatch(r"[0-9a-f]{64}", member):
                found.append(member)
            found += objects_of(member)
    return found


def cosigned_at(note, line, cosigner_key):
    """Returns the time of a cosignature line over a note (C2SP tlog-cosignature)."""
    name, key_hash, key = cosigner_key.split("+", 2)
    key = base64.b64decode(key, validate=True)
    if key[0] != 4 or len(key) != 33 or sha256(name.encode() + b"\n" + key)[:4].hex() != key_hash:
        raise ValueError("not a cosigner's key")
    dash, signer, value = line.rstrip("\n").split(" ")
    value = base64.b64decode(value, validate=True)
    if dash != "\u2014" or signer != name or value[:4].hex() != key_hash or len(value) != 4 + 8 + 64:
        raise ValueError("not a cosignature of this key")
    at = int.from_bytes(value[4:12], "big")
    text = note.rpartition("\n\n")[0] + "\n"
    if not ed25519_verify(key[1:], b"cosignature/v1\ntime %d\n" % at + text.encode(), value[12:]):
        raise ValueError("the cosignature is not valid")
    return at


def check(v, log):
    if sha256(v["origin"].encode())[:16].hex() != v["log_id"]:
        raise ValueError("log_id")
    old, lines, note = parse_append(base64.b64decode(v["append"], validate=True))
    size, _, leaves = verify_log(log)
    if not log.endswith(lines) or old + lines.count(b"\n") != size:
        raise ValueError("the lines are not the end of the log")
    if open_checkpoint(note.decode(), v["log_key"]) != (size, tree_hash(leaves)):
        raise ValueError("the checkpoint is not of the tree with these lines")
    if cosigned_at(note.decode(), v["cosignature"], v["cosigner_key"]) != v["time"]:
        raise ValueError("the time of the cosignature")
    if note.decode() + v["cosignature"] != v["cosigned"]:
        raise ValueError("the cosigned note")
    heartbeat = parse_append(base64.b64decode(v["heartbeat"], validate=True))
    if heartbeat != (size, b"", note):
        raise ValueError("the heartbeat")
    for body in v["rejected_appends"]:
        try:
            parse_append(base64.b64decode(body["append"], validate=True))
        except ValueError:
            continue
        raise ValueError("taken: " + body["why"])
    for case in v["objects"]:
        if objects_of(parse_line(case["line"].encode())[2]["details"]) != case["names"]:
            raise ValueError("objects of " + case["line"])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        with open(sys.argv[1], encoding="utf-8") as f, open(sys.argv[2], "rb") as g:
            check(json.load(f), g.read())
    except (OSError, ValueError, KeyError) as e:
        print("error: %s" % e, file=sys.stderr)
        sys.exit(1)
    print("good")
