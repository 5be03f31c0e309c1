package pades

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// serialText writes a certificate's serial number as the appliance lists it: hexadecimal, at least 32 digits.
func serialText(n *big.Int) string { return fmt.Sprintf("%032x", n) }

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// attributeNames are the short names of RFC 4519, X.520 and EN 319 412-1 for what stands in certificates. surname is written in full: people
// take SN for the serial number.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "surname", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.17": "postalCode", "2.5.4.42": "givenName", "2.5.4.65": "pseudonym",
	"2.5.4.97": "organizationIdentifier", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "emailAddress",
}

// distinguishedName writes a Name in DER as RFC 4514 §2 has it, the last part first.
func distinguishedName(raw []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return "(an unreadable name)"
	}
	slices.Reverse(rdns)
	parts := make([]string, 0, len(rdns))
	for _, rdn := range rdns {
		values := make([]string, 0, len(rdn))
		for _, a := range rdn {
			values = append(values, attribute(a))
		}
		parts = append(parts, strings.Join(values, "+"))
	}
	return strings.Join(parts, ",")
}

// attribute writes one attribute: in words when both the type and the form of the value are known, else RFC 4514 §2.4's hexadecimal DER.
func attribute(a pkix.AttributeTypeAndValue) string {
	oid := a.Type.String()
	value, text := a.Value.(string)
	if name := attributeNames[oid]; name != "" && text {
		return name + "=" + escapeName(value)
	}
	der, err := asn1.Marshal(a.Value)
	if err != nil {
		return oid + "=?"
	}
	return oid + "=#" + hex.EncodeToString(der)
}

// escapeName escapes a value as RFC 4514 §2.4 wants it.
func escapeName(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == 0:
			b.WriteString(`\00`)
			continue
		case strings.ContainsRune(`,+"\<>;`, r), i == 0 && (r == ' ' || r == '#'), i == len(s)-1 && r == ' ':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
