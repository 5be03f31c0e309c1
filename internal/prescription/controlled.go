package prescription

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// HMR 219(1) and (4)(c)(ii), as SI 2015/903 amended them: a prescription for a Schedule 1 drug cannot be electronic, and one for
// Schedules 2 and 3 only goes through the NHS Electronic Prescription Service. So neither is signed here, whatever the request calls it.

func (v *validation) medicine(p *Prescription) {
	const name, schedule = "medication_name", "controlled_drug_schedule"
	switch p.ControlledDrugSchedule {
	case "":
		v.add(schedule, Missing, `is required: "none", "4" or "5"`)
	case Schedule1:
		v.add(schedule, ControlledDrug, "a Schedule 1 drug cannot be prescribed electronically")
	case Schedule2, Schedule3:
		v.add(schedule, ControlledDrug, "a Schedule %s drug cannot be prescribed here: use the NHS Electronic Prescription Service or a form FP10PCD",
			p.ControlledDrugSchedule)
	case NotControlled, Schedule4, Schedule5:
	default:
		v.add(schedule, Malformed, `must be "none", "4" or "5"`)
	}
	if !v.filled(name, p.MedicationName) {
		return
	}
	if r, ok := foreignLetter(p.MedicationName); ok {
		v.add(name, Malformed, "holds U+%04X, a letter of another script that could pass for another medicine: use Latin letters", r)
		return
	}
	switch c := classify(p.MedicationName+" "+p.Strength, p.Form); {
	case c.schedule == Schedule1:
		v.add(name, ControlledDrug, "%s is in Schedule 1: it cannot be prescribed electronically", c.substance)
	case c.schedule == Schedule2 && c.exempt && p.ControlledDrugSchedule == Schedule5:
	case c.schedule == Schedule2 && c.exempt:
		v.add(schedule, ControlledDrug, "%s is in Schedule 2 unless the preparation is one of Schedule 5: if so, state \"5\"", c.substance)
	case c.schedule != "":
		v.add(name, ControlledDrug, "%s is in Schedule %s: use the NHS Electronic Prescription Service or a form FP10PCD", c.substance, c.schedule)
	}
}

// byCode holds the medicine's code against a dictionary. It refuses what the dictionary knows to be controlled, and a stated schedule that is not the
// dictionary's. It lifts no refusal: the name is what the pharmacist reads, and the caller could have sent any code with it.
func (v *validation) byCode(p *Prescription, medicines Dictionary) {
	const code, stated = "snomed_code", "controlled_drug_schedule"
	if !v.filled(code, p.SNOMEDCode) {
		return
	}
	s, known := medicines.Schedule(p.SNOMEDCode)
	switch schedule := Schedule(s); {
	case !known:
	case schedule == Schedule1:
		v.add(code, ControlledDrug, "is that of a Schedule 1 drug (dm+d): it cannot be prescribed electronically")
	case schedule == Schedule2 || schedule == Schedule3:
		v.add(code, ControlledDrug, "is that of a Schedule %s drug (dm+d): use the NHS Electronic Prescription Service or a form FP10PCD", s)
	case v.filled(stated, string(p.ControlledDrugSchedule)) && p.ControlledDrugSchedule != schedule:
		v.add(stated, Inconsistent, "does not agree with snomed_code, whose schedule in dm+d is %q: correct whichever is wrong", s)
	}
}

// foreignLetter finds a letter by which a medicine's name could look like another: neither Latin nor Greek, Greek within a Latin word, or a Latin one that
// is no letter of English with a mark (a dotless i, say).
func foreignLetter(s string) (rune, bool) {
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) }) {
		var latin, greek rune
		for _, r := range word {
			switch {
			case unicode.Is(unicode.Latin, r):
				if plain := []rune(norm.NFKD.String(string(r))); plain[0] > unicode.MaxASCII && !strings.ContainsRune("æÆœŒß", r) {
					return r, true
				}
				latin = r
			case r == 'µ' || r == 'μ': // the sign for micro stands before a g
			case unicode.Is(unicode.Greek, r):
				greek = r
			case unicode.IsLetter(r):
				return r, true
			}
		}
		if latin != 0 && greek != 0 {
			return greek, true
		}
	}
	return 0, false
}

// class is what the built-in list knows of a medicine. exempt: some preparations of the substance are in Schedule 5, and by its name and
// form this may be one.
type class struct {
	substance string
	schedule  Schedule
	exempt    bool
}

// classify looks the words of a medicine's name up in the built-in list.
func classify(medicine, form string) class {
	words := foldWords(medicine)
	all := append(slices.Clone(words), foldWords(form)...)
	if has(words, "sativex") || has(words, "nabiximols") || has(words, "dronabinol") && has(words, "cannabidiol") {
		return class{} // the oromucosal spray is in Schedule 4, Part 1
	}
	for _, w := range withJoined(words, foldWords(digitsAs("oieasb").Replace(medicine)), foldWords(digitsAs("oleasb").Replace(medicine))) {
		if slices.Contains(exemptible, w) {
			return class{w, Schedule2, !injected(all)}
		}
		if w == "morphine" || w == "oramorph" {
			return class{"morphine", Schedule2, weakOralMorphine(all, medicine)}
		}
		for _, list := range []struct {
			schedule Schedule
			names    []string
		}{{Schedule1, schedule1}, {Schedule2, schedule2}, {Schedule3, schedule3}} {
			if _, found := slices.BinarySearch(list.names, w); found {
				return class{w, list.schedule, false}
			}
		}
	}
	return class{}
}

// maxJoined bounds how many neighbours are read as one word.
const maxJoined = 12

// withJoined returns the words of each spelling, and neighbours of one as one word: "Oxy-Norm" is OxyNorm.
func withJoined(spellings ...[]string) (all []string) {
	for _, words := range spellings {
		all = append(all, words...)
		for i := range words {
			joined := words[i]
			for _, next := range words[i+1 : min(i+maxJoined, len(words))] {
				joined += next
				all = append(all, joined)
			}
		}
	}
	return all
}

// digitsAs reads the digits 0, 1, 3, 4, 5 and 8 as the letters that they look like: "M0rphine".
func digitsAs(letters string) *strings.Replacer {
	var pairs []string
	for i, digit := range "013458" {
		pairs = append(pairs, string(digit), letters[i:i+1])
	}
	return strings.NewReplacer(pairs...)
}

func has(words []string, w string) bool { return slices.Contains(words, w) }

func injected(words []string) bool {
	for _, w := range words {
		switch w {
		case "injection", "injections", "ampoule", "ampoules", "infusion", "vial", "vials", "syringe", "parenteral", "inj":
			return true
		}
	}
	return false
}

// twoInAThousand is the strength of the one oral solution of morphine in Schedule 5: MDR 2001, Schedule 5, paragraph 3, not more than
// 0.2 % of morphine calculated as base.
var twoInAThousand = regexp.MustCompile(`(^|[^0-9.,])(10mg(/|per|in)5ml|2mg(/|per|in)1?ml)`)

func weakOralMorphine(words []string, medicine string) bool {
	return !injected(words) && (has(words, "oral") || has(words, "oramorph")) &&
		twoInAThousand.MatchString(strings.ToLower(strings.Join(strings.Fields(medicine), "")))
}

// foldWords splits text into lower-case words of bare letters: compatibility forms and accents are taken off.
func foldWords(s string) []string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(s) {
		if !unicode.Is(unicode.M, r) {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return strings.FieldsFunc(b.String(), func(r rune) bool { return !unicode.IsLetter(r) })
}
