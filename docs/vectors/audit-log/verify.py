#!/usr/bin/env python3
"""Verifies an audit log from its description in docs/audit-log.md alone, with nothing but Python's standard library.

usage: verify.py audit_chain.jsonl [checkpoint.txt LOG_KEY [COSIGNER_KEY...]]
       verify.py --proof line.json line.tlog-proof LOG_KEY [COSIGNER_KEY...]

Prints {"size", "head", "root"} as JSON, of the log or of the proof's checkpoint (without head). Exit code 0: the log is good, and has the checkpoint's
tree when one is given, or the proof shows the line; every cosigner that is named has cosigned. 1: it is not so.
"""
import base64
import datetime
import hashlib
import json
import re
import sys

MAX_LINE, MAX_ACTOR, MAX_KEY, MAX_DEPTH, MAX_INTEGER = 65535, 256, 128, 32, 2**53 - 1


def sha256(data):
    return hashlib.sha256(data).digest()


def canonical(value):
    """RFC 8785, which for our restricted values is what json.dumps does when told so."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def no_duplicates(pairs):
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a key twice in one object")
    return dict(pairs)


def refuse(text):
    raise ValueError("number %s is not an integer" % text)


def check_value(value, depth=1):
    if isinstance(value, (dict, list)) and depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        for key, member in value.items():
            if not re.fullmatch(r'[ !#-\[\]-~]{1,%d}' % MAX_KEY, key):
                raise ValueError("key %r" % key)
            check_value(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            check_value(member, depth + 1)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError("number %d" % value)


def parse_line(raw):
    """Returns (prev_hash, hash, entry) of a line without its newline; ValueError when it is not in the one form it may have."""
    if len(raw) > MAX_LINE:
        raise ValueError("the line is too long")
    line = json.loads(raw.decode("utf-8"), object_pairs_hook=no_duplicates, parse_float=refuse, parse_constant=refuse)
    prev, own, entry = line["prev_hash"], line["hash"], line["entry"]
    stamp, kind, actor, details = entry["timestamp"], entry["event_type"], entry["actor"], entry["details"]
    if not isinstance(details, dict):
        raise ValueError("details are no object")
    check_value(details)
    for h in (prev, own):
        if not re.fullmatch(r"[0-9a-f]{64}", h):
            raise ValueError("hash %r" % h)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", stamp) or stamp < "1970":
        raise ValueError("timestamp %r" % stamp)
    datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ")
    if stamp[17:19] > "59":
        raise ValueError("timestamp %r" % stamp)
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", kind):
        raise ValueError("event type %r" % kind)
    if not 1 <= len(actor.encode("utf-8")) <= MAX_ACTOR:
        raise ValueError("actor %r" % actor)
    # The one form of a line: written again from what was read it must be the same bytes.
    form = (b'{"prev_hash":"%s","hash":"%s","entry":{"timestamp":"%s","event_type":"%s","actor":%s,"details":%s}}'
            % (prev.encode(), own.encode(), stamp.encode(), kind.encode(), canonical(actor), canonical(details)))
    if form != raw:
        raise ValueError("the line is not in its canonical form")
    if sha256(bytes.fromhex(prev) + canonical(entry)).hex() != own:
        raise ValueError("the hash does not match what the line says")
    return prev, own, entry


def tree_hash(leaves):
    """RFC 6962 section 2.1, over leaf hashes, as the RFC writes it down."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:]))


def verify_log(data):
    """Returns (size, head, leaf hashes) of a whole log."""
    if data and not data.endswith(b"\n"):
        raise ValueError("the file ends within a line")
    head, last, leaves = "0" * 64, "", []
    for n, raw in enumerate(data.split(b"\n")[:-1], 1):
        try:
            prev, own, entry = parse_line(raw)
            if prev != head:
                raise ValueError("prev_hash is not the hash of the line before")
            if entry["timestamp"] < last:
                raise ValueError("time goes back")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise ValueError("line %d: %s" % (n, e)) from None
        head, last = own, entry["timestamp"]
        leaves.append(sha256(b"\x00" + raw))
    return len(leaves), head, leaves


# Ed25519 (RFC 8032 section 5.1), verification only, in affine coordinates: short and slow.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def recover(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - x2) % P or (x == 0 and sign):
        raise ValueError("no point")
    return (P - x if x & 1 != sign else x), y


def add(a, b):
    t = D * a[0] * b[0] * a[1] * b[1] % P
    return ((a[0] * b[1] + a[1] * b[0]) * pow(1 + t, -1, P) % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, P) % P)


def multiply(k, point):
    out = (0, 1)
    while k:
        if k & 1:
            out = add(out, point)
        point, k = add(point, point), k >> 1
    return out


BASE = recover((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def ed25519_verify(public, message, signature):
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return multiply(s, BASE) == add(recover(signature[:32]), multiply(k, recover(public)))


def read_key(verifier_key, kind):
    """Returns (name, key hash, public key) of a verifier key of a signature type: 1 is a log's, 4 a cosigner's."""
    name, key_hash, key = verifier_key.split("+", 2)
    key = base64.b64decode(key, validate=True)
    if key[0] != kind or len(key) != 33 or sha256(name.encode() + b"\n" + key)[:4].hex() != key_hash:
        raise ValueError("not a verifier key of type %d" % kind)
    return name, key_hash, key[1:]


def signatures(note, name, key_hash):
    """Yields the signatures under a name and key hash."""
    for line in note.rpartition("\n\n")[2].splitlines():
        dash, signer, value = line.split(" ")
        value = base64.b64decode(value, validate=True)
        if dash == "\u2014" and signer == name and value[:4].hex() == key_hash:
            yield value[4:]


def cosigned_at(note, verifier_key):
    """Returns the time of a cosignature (C2SP tlog-cosignature, Ed25519), seconds since 1970."""
    name, key_hash, key = read_key(verifier_key, 4)
    text = note.rpartition("\n\n")[0] + "\n"
    for value in signatures(note, name, key_hash):
        at = int.from_bytes(value[:8], "big")
        if len(value) == 72 and ed25519_verify(key, ("cosignature/v1\ntime %d\n%s" % (at, text)).encode(), value[8:]):
            return at
    raise ValueError("not cosigned by %s" % name)


def open_checkpoint(note, verifier_key, *cosigners):
    """Returns (size, root) of a checkpoint that the log's own key signed, and every cosigner."""
    name, key_hash, key = read_key(verifier_key, 1)
    text = note.rpartition("\n\n")[0] + "\n"
    if not any(ed25519_verify(key, text.encode(), value) for value in signatures(note, name, key_hash)):
        raise ValueError("no signature of the log's key")
    for cosigner in cosigners:
        cosigned_at(note, cosigner)
    origin, size, root, end = text.split("\n")
    if origin != name or end or str(int(size)) != size:
        raise ValueError("not a checkpoint of this log")
    return int(size), base64.b64decode(root, validate=True)


def node(left, right):
    return sha256(b"\x01" + left + right)


def split(size):
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def root_of(leaf, index, size, path):
    """RFC 6962 section 2.1.1: the root that an audit path leads to."""
    if size == 1 or not path:
        if size > 1 or path:
            raise ValueError("the path has another length")
        return leaf
    k = split(size)
    if index < k:
        return node(root_of(leaf, index, k, path[:-1]), path[-1])
    return node(path[-1], root_of(leaf, index - k, size - k, path[:-1]))


def roots_of(old, size, proof, old_root, whole=True):
    """RFC 6962 section 2.1.2: the roots (old, new) that a consistency proof leads to; old is not 0."""
    if old == size or not proof:
        if old != size or len(proof) != (0 if whole else 1):
            raise ValueError("the proof has another length")
        return (old_root, old_root) if whole else (proof[0], proof[0])
    k = split(size)
    if old <= k:
        a, b = roots_of(old, k, proof[:-1], old_root, whole)
        return a, node(b, proof[-1])
    a, b = roots_of(old - k, size - k, proof[:-1], old_root, False)
    return node(proof[-1], a), node(proof[-1], b)


def open_proof(line, text, verifier_key, *cosigners):
    """Returns (size, root) of the checkpoint under which a C2SP tlog-proof shows a line."""
    head, _, note = text.partition("\n\n")
    first, *rest = head.split("\n")
    if rest[0].startswith("extra "):
        rest = rest[1:]
    index = int(rest[0].removeprefix("index "))
    if first != "c2sp.org/tlog-proof@v1" or rest[0] != "index %d" % index:
        raise ValueError("not a proof")
    size, root = open_checkpoint(note, verifier_key, *cosigners)
    path = [base64.b64decode(h, validate=True) for h in rest[1:]]
    if index >= size or root_of(sha256(b"\x00" + line), index, size, path) != root:
        raise ValueError("the proof does not show the line")
    return size, root


def read_text(name):
    with open(name, encoding="utf-8", newline="") as f:
        return f.read()


def main(args):
    try:
        if args[0] == "--proof":
            size, root = open_proof(read_text(args[1]).removesuffix("\n").encode(), read_text(args[2]), *args[3:])
            print(json.dumps({"size": size, "root": root.hex()}))
            return 0
        with open(args[0], "rb") as f:
            size, head, leaves = verify_log(f.read())
        if len(args) > 1:
            known, root = open_checkpoint(read_text(args[1]), *args[2:])
            if known > size:
                raise ValueError("the log has %d lines, the checkpoint %d: lines are missing" % (size, known))
            if tree_hash(leaves[:known]) != root:
                raise ValueError("the first %d lines are not those of the checkpoint" % known)
    except (OSError, ValueError, IndexError) as e:
        print("error: %s" % e, file=sys.stderr)
        return 1
    print(json.dumps({"size": size, "head": head, "root": tree_hash(leaves).hex()}))
    return 0


if __name__ == "__main__":
    if len(sys.argv) in (1, 3) or sys.argv[1] == "--proof" and len(sys.argv) < 5:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
