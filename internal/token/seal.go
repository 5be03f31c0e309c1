package token

import (
	"bytes"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// A sealed object key is nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes) of AES-256-GCM under the token's sealing key, with this text as
// additional data: what was sealed as something else does not open as an object key.
const (
	objectKeyContext = "aes-appliance object key v1"
	objectKeySize    = 32
	gcmNonce, gcmTag = 12, 16
	sealedSize       = gcmNonce + objectKeySize + gcmTag
)

// SealKey encrypts a 32-byte object key under a key that never leaves the token. Two seals of one key differ.
// The token draws the nonce: 2^32 seals keep the chance of a repeated one below 2^-32 (SP 800-38D §8.3).
func (t *Token) SealKey(key []byte) ([]byte, error) {
	if t.objKEK == 0 {
		return nil, errSigningOnly()
	}
	if len(key) != objectKeySize {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("an object key has %d bytes, not %d", objectKeySize, len(key)))
	}
	var sealed []byte
	err := t.pool.do(func(s pkcs11.SessionHandle) error {
		nonce, err := t.p.GenerateRandom(s, gcmNonce)
		if err != nil {
			return p11Error("drawing a nonce", err)
		}
		params := pkcs11.NewGCMParams(nonce, []byte(objectKeyContext), gcmTag*8)
		defer params.Free()
		if err := t.p.EncryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, t.objKEK); err != nil {
			return mechGCM.error("sealing an object key", err)
		}
		body, err := t.p.Encrypt(s, key)
		if err != nil {
			return mechGCM.error("sealing an object key", err)
		}
		// Some modules draw their own nonce and write it into the parameters.
		sealed = append(bytes.Clone(params.IV()), body...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(sealed) != sealedSize {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("the token sealed an object key to %d bytes, not %d", len(sealed), sealedSize))
	}
	return sealed, nil
}

// OpenKey returns the object key that SealKey sealed. Anything else, or a changed byte, is Corrupt.
func (t *Token) OpenKey(sealed []byte) ([]byte, error) {
	if t.objKEK == 0 {
		return nil, errSigningOnly()
	}
	if len(sealed) != sealedSize {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("a sealed object key has %d bytes, not %d", sealedSize, len(sealed)))
	}
	var key []byte
	err := t.pool.do(func(s pkcs11.SessionHandle) error {
		params := pkcs11.NewGCMParams(sealed[:gcmNonce], []byte(objectKeyContext), gcmTag*8)
		defer params.Free()
		if err := t.p.DecryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, t.objKEK); err != nil {
			return mechGCM.error("opening an object key", err)
		}
		var err error
		if key, err = t.p.Decrypt(s, sealed[gcmNonce:]); err == nil {
			return nil
		}
		if isRV(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID) || isRV(err, pkcs11.CKR_GENERAL_ERROR) || isRV(err, pkcs11.CKR_FUNCTION_FAILED) {
			return fault.New(fault.Corrupt, "a sealed object key is damaged or was sealed by another token").WithCause(err)
		}
		return p11Error("opening an object key", err)
	})
	if err != nil {
		return nil, err
	}
	if len(key) != objectKeySize {
		return nil, fault.New(fault.Corrupt, "a sealed object key holds something else")
	}
	return key, nil
}
