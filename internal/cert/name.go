package cert

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/text/unicode/norm"
)

// maxAttribute is the upper bound, in characters, that RFC 5280 A.1 sets for commonName, organizationName and serialNumber. Names of
// persons are held to it too, although their own bound is far higher.
const maxAttribute = 64

var (
	oidCommonName     = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSurname        = asn1.ObjectIdentifier{2, 5, 4, 4}
	oidSerialNumber   = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidCountry        = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidOrganization   = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidGivenName      = asn1.ObjectIdentifier{2, 5, 4, 42}
	oidOrganizationID = asn1.ObjectIdentifier{2, 5, 4, 97}
)

// Subject is the distinguished name of a certificate's holder. Which fields a kind of certificate has is its Profile's to say.
type Subject struct {
	Country        string `json:"country,omitempty"`         // ISO 3166-1 alpha-2, upper case
	Organization   string `json:"organization,omitempty"`    // of a person: the clinic the certificate is for
	OrganizationID string `json:"organization_id,omitempty"` // EN 319 412-1 §5.1.4, as "NTRGB-01234567"
	CommonName     string `json:"common_name"`               // of a person: the full name as the booking app sends it
	GivenName      string `json:"given_name,omitempty"`
	Surname        string `json:"surname,omitempty"`
	SerialNumber   string `json:"serial_number,omitempty"` // EN 319 412-1 §5.1.3, as "GM:GB-1234567"
}

// CleanText returns text in Unicode normalisation form C, or an error that says what in it may not stand in a certificate: control,
// format (bidirectional, zero-width), private-use and unassigned characters, default-ignorable ones, any space but the plain one, and
// spaces at the ends or in a row. what names the field in the error.
func CleanText(what, text string) (string, error) {
	if !utf8.ValidString(text) {
		return "", fmt.Errorf("%s is not valid UTF-8", what)
	}
	text = norm.NFC.String(text)
	if text == "" || utf8.RuneCountInString(text) > maxAttribute {
		return "", fmt.Errorf("%s has %d characters, 1 to %d are allowed", what, utf8.RuneCountInString(text), maxAttribute)
	}
	marks := 0
	for _, r := range text {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == '\u2800' {
			return "", fmt.Errorf("%s holds %U, which cannot be seen or is no character", what, r)
		}
		if !unicode.Is(unicode.M, r) {
			marks = 0
			continue
		}
		if marks++; marks > 3 {
			return "", fmt.Errorf("%s has more than three marks on one letter", what)
		}
	}
	if unicode.Is(unicode.M, []rune(text)[0]) {
		return "", fmt.Errorf("%s begins with a mark", what)
	}
	if strings.TrimSpace(text) != text || strings.Contains(text, "  ") {
		return "", fmt.Errorf("%s has spaces at an end or two in a row", what)
	}
	return text, nil
}

// Clean returns the subject with its texts in NFC, or all that is wrong with it. Absent fields stay absent.
func (s Subject) Clean() (Subject, error) {
	var problems []error
	if s.Country != "" && !isCountry(s.Country) {
		problems = append(problems, fmt.Errorf("country %q is not two capital letters", s.Country))
	}
	for _, f := range []struct {
		what string
		text *string
	}{{"common name", &s.CommonName}, {"organization", &s.Organization}, {"given name", &s.GivenName}, {"surname", &s.Surname}} {
		if *f.text == "" {
			continue
		}
		clean, err := CleanText(f.what, *f.text)
		if err != nil {
			problems = append(problems, err)
		}
		*f.text = clean
	}
	if s.OrganizationID != "" && (!isPrintable(s.OrganizationID) || len(s.OrganizationID) > maxAttribute || !isOrganizationID(s.OrganizationID)) {
		problems = append(problems, fmt.Errorf("organization identifier %q is not of the form NTRGB-01234567 (EN 319 412-1 §5.1.4)", s.OrganizationID))
	}
	if s.SerialNumber != "" {
		if _, err := ParsePersonID(s.SerialNumber); err != nil {
			problems = append(problems, err)
		}
	}
	return s, errors.Join(problems...)
}

// DER returns the RDNSequence, one attribute in each RDN. Country and the serial number are PrintableString as X.520 demands, the
// texts are UTF8String (RFC 5280 §4.1.2.4).
func (s Subject) DER() []byte {
	return element(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range []struct {
			oid   asn1.ObjectIdentifier
			tag   cbasn1.Tag
			value string
		}{
			{oidCountry, cbasn1.PrintableString, s.Country},
			{oidOrganization, cbasn1.UTF8String, s.Organization},
			{oidOrganizationID, cbasn1.UTF8String, s.OrganizationID},
			{oidSurname, cbasn1.UTF8String, s.Surname},
			{oidGivenName, cbasn1.UTF8String, s.GivenName},
			{oidSerialNumber, cbasn1.PrintableString, s.SerialNumber},
			{oidCommonName, cbasn1.UTF8String, s.CommonName},
		} {
			if a.value == "" {
				continue
			}
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(a.oid)
					b.AddASN1(a.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.value)) })
				})
			})
		}
	})
}

func isCountry(c string) bool {
	return len(c) == 2 && c[0] >= 'A' && c[0] <= 'Z' && c[1] >= 'A' && c[1] <= 'Z'
}

// isOrganizationID reports whether id has the form of EN 319 412-1 §5.1.4: three letters of a scheme (or two and a colon), a country, a
// hyphen, a reference.
func isOrganizationID(id string) bool {
	return len(id) > 6 && isCountry(id[0:2]) && (id[2] == ':' || id[2] >= 'A' && id[2] <= 'Z') && isCountry(id[3:5]) && id[5] == '-'
}

// isPrintable reports whether text is within PrintableString (X.680 §41.4).
func isPrintable(text string) bool {
	for _, r := range text {
		if r > 'z' || !(r >= 'a' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)) {
			return false
		}
	}
	return true
}

// Fold returns the name without regard to case, spaces and punctuation: two names with one fold are the same name, written differently.
func Fold(name string) string {
	return keepLetters(strings.ToLower(norm.NFKC.String(name)), func(r rune) rune { return r })
}

// Skeleton returns what a reader is likely to see in a name: two names with one skeleton can be taken for each other. It leaves out spaces
// and punctuation and puts Latin letters for those of other scripts that look like them, I and 1 being l (the idea of Unicode TS 39, for the
// scripts in which clinicians' names are likely to be typed). Skeleton and Fold are for refusing a second, similar name, never for matching.
func Skeleton(name string) string { return keepLetters(norm.NFKD.String(name), lookAlike) }

func keepLetters(text string, change func(rune) rune) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			b.WriteRune(change(r))
		}
	}
	return b.String()
}

// lookAlike returns the Latin letter that r looks like, or r.
func lookAlike(r rune) rune {
	const (
		cyrillic, itsLatin = "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝѵӏгпьЬ", "ABESlJKMHOPCTYXaesijopcyxhdqwvlrnbb"
		greek, latinOfIt   = "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαιγνορυϲϳ", "ABEZHlKMNOPTYXaiyvopucj"
		others, latinToo   = "I10ıɑɡ", "llOiag"
	)
	for _, table := range [][2]string{{others, latinToo}, {cyrillic, itsLatin}, {greek, latinOfIt}} {
		at := 0
		for _, like := range table[0] {
			if like == r {
				return rune(table[1][at])
			}
			at++
		}
	}
	return r
}
