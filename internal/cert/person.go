package cert

import (
	"fmt"
	"slices"
	"strings"
)

// PersonID is a natural person's identifier in the form of EN 319 412-1 §5.1.3: two characters for a national scheme, a colon, a
// country, a hyphen, the reference.
type PersonID struct {
	Register string // GM, NM, GD or PH
	Country  string // GB
	Number   string
}

// register is one of the professional registers whose members may prescribe.
type register struct {
	code, name string
	forms      []string // of numbers: 0 is any digit, A any capital letter, another character itself
	uri        string   // of the name registration authority
}

func registers() []register {
	return []register{
		{"GM", "GMC", []string{"0000000", "L000000"}, "https://www.gmc-uk.org"},
		{"NM", "NMC", []string{"00A0000A"}, "https://www.nmc.org.uk"},
		{"GD", "GDC", []string{"000", "0000", "00000", "000000"}, "https://www.gdc-uk.org"},
		{"PH", "GPhC", []string{"2000000"}, "https://www.pharmacyregulation.org"},
	}
}

// holds reports whether number has one of the register's forms.
func (r register) holds(number string) bool {
	return slices.ContainsFunc(r.forms, func(form string) bool {
		if len(form) != len(number) {
			return false
		}
		for i := range len(form) {
			digit, capital := number[i] >= '0' && number[i] <= '9', number[i] >= 'A' && number[i] <= 'Z'
			if !(form[i] == '0' && digit || form[i] == 'A' && capital || form[i] == number[i]) {
				return false
			}
		}
		return true
	})
}

// NewPersonID returns the identifier of a member of a register, named GMC, NMC, GDC or GPhC, after checking the number's form (none of
// them has a check digit that is known).
func NewPersonID(registerName, number string) (PersonID, error) {
	for _, r := range registers() {
		if r.name != registerName {
			continue
		}
		if !r.holds(number) {
			return PersonID{}, fmt.Errorf("%q is not a %s number", number, r.name)
		}
		return PersonID{Register: r.code, Country: "GB", Number: number}, nil
	}
	return PersonID{}, fmt.Errorf("register %q is not GMC, NMC, GDC or GPhC", registerName)
}

// ParsePersonID reads a subject's serialNumber. ParsePersonID(id.String()) == id for every id made here.
func ParsePersonID(text string) (PersonID, error) {
	bad := fmt.Errorf("serial number %q is not of the form GM:GB-1234567 with GM, NM, GD or PH (EN 319 412-1 §5.1.3)", text)
	head, number, ok := strings.Cut(text, "-")
	if !ok || len(head) != 5 || head[2] != ':' || head[3:] != "GB" {
		return PersonID{}, bad
	}
	for _, r := range registers() {
		if r.code == head[:2] && r.holds(number) {
			return PersonID{Register: r.code, Country: "GB", Number: number}, nil
		}
	}
	return PersonID{}, bad
}

// String returns the identifier as it stands in the certificate.
func (id PersonID) String() string { return id.Register + ":" + id.Country + "-" + id.Number }

// RegisterName returns the register's usual name, as GMC.
func (id PersonID) RegisterName() string { return id.register().name }

// authority returns the URI of the register's keeper, the name registration authority.
func (id PersonID) authority() string { return id.register().uri }

func (id PersonID) register() register {
	for _, r := range registers() {
		if r.code == id.Register {
			return r
		}
	}
	panic("cert: a PersonID of no register: " + id.Register)
}
