// Package replica is how the log and its objects get to the backup and back: the Shipper in the signer, the Receiver on the backup, and the protocol
// between them (docs/replication.md describes it for those who write one of their own).
//
// What holds, whatever fails on either side:
//
//   - A cosignature leaves the Receiver only after the lines it covers, the objects that they name, and the fact that it was given are durable there.
//   - The Receiver never cosigns two histories: what it cosigns begins with all that it cosigned before.
//   - Nothing that a client can ask deletes or rewrites anything. What is refused leaves its evidence.
//   - What the Shipper reports as cosigned carries a cosignature, over the log's own signed checkpoint, that it verified itself.
package replica
