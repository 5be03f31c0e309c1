package prescription

import (
	"regexp"
	"time"
)

var (
	idFormat  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	odsFormat = regexp.MustCompile(`^F[A-Z0-9]{4}$`) // a pharmacy in England

	registrationFormats = map[Register]*regexp.Regexp{
		GMC:  regexp.MustCompile(`^(\d{7}|L\d{6})$`),
		NMC:  regexp.MustCompile(`^\d{2}[A-Z]\d{4}[A-Z]$`),
		GDC:  regexp.MustCompile(`^\d{3,6}$`),
		GPhC: regexp.MustCompile(`^2\d{6}$`),
	}
	registrationHints = map[Register]string{
		GMC:  "seven digits, or L and six digits",
		NMC:  "two digits, a letter, four digits and a letter, such as 12A3456B",
		GDC:  "three to six digits",
		GPhC: "seven digits of which the first is 2",
	}
)

// ValidSNOMED tells whether s is the identifier of a SNOMED CT concept: 6 to 18 digits without a leading zero, of a concept partition
// (00, or 10 in an extension such as dm+d's), with a right check digit (SNOMED CT Technical Implementation Guide, SCTID).
func ValidSNOMED(s string) bool {
	if len(s) < 6 || len(s) > 18 || s[0] == '0' || !digits(s) {
		return false
	}
	partition := s[len(s)-3 : len(s)-1]
	return (partition == "00" || partition == "10") && verhoeff(s)
}

// The multiplication table of the dihedral group D5 and the permutation of Verhoeff's scheme.
var (
	verhoeffProduct = [10][10]byte{
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 4, 0, 6, 7, 8, 9, 5}, {2, 3, 4, 0, 1, 7, 8, 9, 5, 6},
		{3, 4, 0, 1, 2, 8, 9, 5, 6, 7}, {4, 0, 1, 2, 3, 9, 5, 6, 7, 8}, {5, 9, 8, 7, 6, 0, 4, 3, 2, 1},
		{6, 5, 9, 8, 7, 1, 0, 4, 3, 2}, {7, 6, 5, 9, 8, 2, 1, 0, 4, 3}, {8, 7, 6, 5, 9, 3, 2, 1, 0, 4},
		{9, 8, 7, 6, 5, 4, 3, 2, 1, 0},
	}
	verhoeffPermutation = [10]byte{1, 5, 7, 6, 2, 8, 3, 0, 9, 4}
)

// verhoeff checks a string of digits whose last is the check digit.
func verhoeff(s string) bool {
	var c byte
	for i := range len(s) {
		d := s[len(s)-1-i] - '0'
		for range i % 8 {
			d = verhoeffPermutation[d]
		}
		c = verhoeffProduct[c][d]
	}
	return c == 0
}

// ValidNHSNumber tells whether s is ten digits with a right check digit (NHS Data Dictionary, NHS NUMBER: modulus 11).
func ValidNHSNumber(s string) bool {
	if len(s) != 10 || !digits(s) {
		return false
	}
	sum := 0
	for i := range 9 {
		sum += (10 - i) * int(s[i]-'0')
	}
	return (11-sum%11)%11 == int(s[9]-'0') // a remainder that would want 10 never equals a digit
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) > 0
}

const dateLayout = "2006-01-02"

// UKDate is the date in London at t, as YYYY-MM-DD.
func UKDate(t time.Time) string { return ukTime(t).Format(dateLayout) }

// ukTime is t in UK civil time: British Summer Time runs from 01:00 UTC on the last Sunday of March to 01:00 UTC on the last Sunday
// of October (Summer Time Order 2002). The rule is here so that the answer does not depend on the machine's time zone files.
func ukTime(t time.Time) time.Time {
	t = t.UTC()
	if from, to := lastSunday(t.Year(), time.March), lastSunday(t.Year(), time.October); !t.Before(from) && t.Before(to) {
		return t.In(time.FixedZone("BST", 3600))
	}
	return t.In(time.FixedZone("GMT", 0))
}

func lastSunday(year int, m time.Month) time.Time {
	t := time.Date(year, m, 31, 1, 0, 0, 0, time.UTC)
	return t.AddDate(0, 0, -int(t.Weekday()))
}

// age is the number of whole years and months from birth to the day on, both dates at midnight UTC.
func age(birth, on time.Time) (years, months int) {
	m := (on.Year()-birth.Year())*12 + int(on.Month()) - int(birth.Month())
	if on.Day() < birth.Day() {
		m--
	}
	return m / 12, m % 12
}
