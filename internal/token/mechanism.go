package token

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Values of PKCS#11 v3.0 that the v2.40 headers lack.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057
	ckmAESKeyWrapPad       = 0x210A
)

// A mechanism is one that a module may lack, and what of the appliance needs it.
type mechanism struct {
	id   uint
	name string
	need string
}

var (
	mechEdDSA       = mechanism{ckmEdDSA, "CKM_EDDSA", "the log's checkpoint key is Ed25519: use a module with PKCS#11 v3.0 EdDSA"}
	mechEdDSAKeyGen = mechanism{ckmECEdwardsKeyPairGen, "CKM_EC_EDWARDS_KEY_PAIR_GEN", "the log's checkpoint key is Ed25519: use a module with PKCS#11 v3.0 EdDSA"}
	mechWrapPad     = mechanism{ckmAESKeyWrapPad, "CKM_AES_KEY_WRAP_PAD", "clinicians' keys are wrapped with it (RFC 5649): use a module that has it"}
	mechGCM         = mechanism{pkcs11.CKM_AES_GCM, "CKM_AES_GCM", "object keys are sealed with it: use a module that has it"}
)

// mechanismsUsed is all that SoftHSM2 is configured to do with a key.
var mechanismsUsed = []string{"CKM_EC_KEY_PAIR_GEN", "CKM_ECDSA", "CKM_RSA_PKCS_KEY_PAIR_GEN", "CKM_RSA_PKCS", "CKM_RSA_PKCS_PSS",
	"CKM_EC_EDWARDS_KEY_PAIR_GEN", "CKM_EDDSA", "CKM_AES_KEY_GEN", "CKM_AES_KEY_WRAP_PAD", "CKM_AES_GCM"}

// bare returns the mechanism without a parameter.
func (m mechanism) bare() *pkcs11.Mechanism { return pkcs11.NewMechanism(m.id, nil) }

// need returns an error that names m when the module does not have it.
func (t *Token) need(m mechanism) error {
	return t.pool.do(func(pkcs11.SessionHandle) error {
		_, err := t.p.GetMechanismInfo(t.slot, []*pkcs11.Mechanism{m.bare()})
		return m.error("asking for "+m.name, err)
	})
}

// error is p11Error that names m when the module does not have it.
func (m mechanism) error(during string, err error) error {
	if isRV(err, pkcs11.CKR_MECHANISM_INVALID) {
		return fault.New(fault.Unsupported, "the PKCS#11 module has no "+m.name).WithHint(m.need).WithCause(fmt.Errorf("%s: %w", during, err))
	}
	return p11Error(during, err)
}

// isRV says whether err is the PKCS#11 return value rv.
func isRV(err error, rv uint) bool {
	var e pkcs11.Error
	return errors.As(err, &e) && uint(e) == rv
}
