package enrol

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// ExporterLabel is the label under which both sides take ExporterSize bytes of keying material from their TLS connection (RFC 8446 §7.5, empty
// context). Two connections, such as a man in the middle has, never have the same.
const (
	ExporterLabel = "EXPORTER-aes-appliance-enrol-v1"
	ExporterSize  = 32
)

// Role says whose proof it is: one side's can never be shown as the other's.
type Role string

// Roles.
const (
	RolePrimary  Role = "primary"
	RoleReceiver Role = "receiver"
	RoleRestorer Role = "restorer" // a bare machine that asks for what a backup host holds
)

// Channel is one TLS connection, as each side sees it for itself.
type Channel struct {
	Exporter []byte // of ExporterSize bytes
	Client   Key    // of the side that dialled
	Server   Key
}

// Proof shows knowledge of secret on one connection, for one role and statement:
//
//	HMAC-SHA256(secret, "aes-enrol/1\n" ‖ len(role) role ‖ len(exporter) exporter ‖ client ‖ server ‖ len(statement) statement)
//
// with lengths of 4 bytes, big-endian. Whoever sits between the two has other keys and another exporter on at least one side, and does not know
// the secret, so that no proof that is passed on is good. statement is what the prover says besides, the same bytes on both sides.
func Proof(secret [SecretSize]byte, role Role, c Channel, statement []byte) [sha256.Size]byte {
	if len(c.Exporter) != ExporterSize {
		panic("enrol: an exporter of another size")
	}
	h := hmac.New(sha256.New, secret[:])
	put := func(b []byte) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	h.Write([]byte("aes-enrol/1\n"))
	put([]byte(role))
	put(c.Exporter)
	h.Write(c.Client[:])
	h.Write(c.Server[:])
	put(statement)
	return [sha256.Size]byte(h.Sum(nil))
}

// Verify reports whether proof is Proof of the same, in constant time.
func Verify(proof []byte, secret [SecretSize]byte, role Role, c Channel, statement []byte) bool {
	want := Proof(secret, role, c, statement)
	return hmac.Equal(proof, want[:])
}
