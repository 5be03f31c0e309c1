package prescription

import (
	"slices"
	"testing"
	"time"
)

func TestValidSNOMED(t *testing.T) {
	for s, want := range map[string]bool{
		"39732311000001104":   true, // a medicinal product of dm+d
		"322341003":           true,
		"39732311000001105":   false, // check digit
		"39732311000001140":   false, // transposed
		"138875005":           true,
		"10":                  false,
		"":                    false,
		"0138875005":          false,
		"1388750051388750051": false, // 19 digits
		"32234100x":           false,
		"754786011":           false, // a description
	} {
		if got := ValidSNOMED(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// Every change of one digit, and every swap of two neighbours, is found: what Verhoeff's scheme is for.
func TestVerhoeffFindsSlips(t *testing.T) {
	const good = "39732311000001104"
	for i := range len(good) {
		for d := byte('0'); d <= '9'; d++ {
			b := []byte(good)
			b[i] = d
			if string(b) != good && verhoeff(string(b)) {
				t.Errorf("%s passes", b)
			}
		}
		if i > 0 && good[i] != good[i-1] {
			b := []byte(good)
			b[i], b[i-1] = b[i-1], b[i]
			if verhoeff(string(b)) {
				t.Errorf("%s passes", b)
			}
		}
	}
}

func TestValidNHSNumber(t *testing.T) {
	for s, want := range map[string]bool{
		"9434765919": true, "9990000018": true, "4505577104": true,
		"9434765918": false, "943476591": false, "94347659190": false, "943476591X": false, "": false,
	} {
		if got := ValidNHSNumber(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestRegistrationFormats(t *testing.T) {
	for _, c := range []struct {
		register Register
		good     []string
		bad      []string
	}{
		{GMC, []string{"7654321", "L123456"}, []string{"765432", "76543210", "l123456", "L12345", " 7654321"}},
		{NMC, []string{"12A3456B", "98I0001E"}, []string{"12A3456", "1AA3456B", "12a3456b", "12A3456BB"}},
		{GDC, []string{"123", "123456"}, []string{"12", "1234567", "12A"}},
		{GPhC, []string{"2071234"}, []string{"1071234", "207123", "20712345"}},
	} {
		for _, n := range c.good {
			if !registrationFormats[c.register].MatchString(n) {
				t.Errorf("%s %q is refused", c.register, n)
			}
		}
		for _, n := range c.bad {
			if registrationFormats[c.register].MatchString(n) {
				t.Errorf("%s %q is accepted", c.register, n)
			}
		}
	}
}

func TestUKDate(t *testing.T) {
	for in, want := range map[string]string{
		"2026-11-21T23:59:59Z":      "2026-11-21",
		"2026-06-30T23:00:00Z":      "2026-07-01", // British Summer Time
		"2026-03-29T00:59:59Z":      "2026-03-29",
		"2026-10-25T00:59:59Z":      "2026-10-25",
		"2026-10-24T23:30:00Z":      "2026-10-25",
		"2026-10-25T23:30:00Z":      "2026-10-25",
		"2027-01-01T01:00:00+02:00": "2026-12-31",
	} {
		at, err := time.Parse(time.RFC3339, in)
		if err != nil {
			t.Fatal(err)
		}
		if got := UKDate(at); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for year, days := range map[int][2]int{2024: {31, 27}, 2025: {30, 26}, 2026: {29, 25}, 2027: {28, 31}} {
		if a, b := lastSunday(year, time.March), lastSunday(year, time.October); a.Day() != days[0] || b.Day() != days[1] {
			t.Errorf("%d: %v, %v", year, a, b)
		}
	}
}

func TestAge(t *testing.T) {
	for _, c := range []struct {
		birth, on     string
		years, months int
	}{
		{"1985-03-14", "2026-03-13", 40, 11}, {"1985-03-14", "2026-03-14", 41, 0},
		{"2026-11-01", "2026-11-21", 0, 0}, {"2024-02-29", "2025-02-28", 0, 11}, {"2024-02-29", "2025-03-01", 1, 0},
	} {
		b, _ := time.Parse(dateLayout, c.birth)
		o, _ := time.Parse(dateLayout, c.on)
		if y, m := age(b, o); y != c.years || m != c.months {
			t.Errorf("%s on %s: %d years %d months", c.birth, c.on, y, m)
		}
	}
}

func TestScheduleListsAreSorted(t *testing.T) {
	for name, list := range map[string][]string{"schedule1": schedule1, "schedule2": schedule2, "schedule3": schedule3} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("%s is not sorted or repeats a name", name)
		}
		for _, w := range list {
			if f := foldWords(w); len(f) != 1 || f[0] != w {
				t.Errorf("%s: %q is not one folded word", name, w)
			}
		}
	}
}
