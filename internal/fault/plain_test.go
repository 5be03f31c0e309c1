package fault

import "testing"

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"Müller, 10 µs – good":            "Müller, 10 µs – good",
		"\x1b]0;title\x07\x1b[2J":         "?]0;title??[2J",
		"one\nok     two\r\tx":            "one ok     two  x",
		"\u009b31m \u202eabc\u202c\u200b": "?31m ?abc??",
		"bad \xff bytes":                  "bad ? bytes",
	} {
		if got := Plain(in); got != want || Plain(got) != got {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
	if got := PlainLines("one\x1b\ntwo\r\n"); got != "one?\ntwo \n" {
		t.Errorf("%q", got)
	}
}
