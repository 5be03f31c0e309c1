package tsp_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/digitorus/timestamp"

	"github.com/veripath/aes-appliance/internal/tsp"
)

var failures = []tsp.FailInfo{tsp.BadAlg, tsp.BadRequest, tsp.BadDataFormat, tsp.TimeNotAvailable, tsp.UnacceptedPolicy,
	tsp.UnacceptedExtension, tsp.AddInfoNotAvailable, tsp.SystemFailure}

func responses() []tsp.Response {
	list := []tsp.Response{
		{Status: tsp.Granted, Token: seq(der(1))},
		{Status: tsp.GrantedWithMods, Token: seq(), Text: "with modifications"},
		{Status: tsp.Waiting},
		{Status: tsp.RevocationNotification, Text: "zurückgezogen"},
	}
	for _, f := range failures {
		list = append(list, (&tsp.Failure{Info: f, Text: "why: " + f.String()}).Response())
	}
	return list
}

func TestResponseLaw(t *testing.T) {
	for _, r := range responses() {
		b, err := r.Marshal()
		if err != nil {
			t.Errorf("%+v: %v", r, err)
			continue
		}
		if got, err := tsp.ParseResponse(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v, error %v, want %+v", got, err, r)
		}
	}
}

// TestOthersReadOurRefusals has openssl and digitorus/timestamp say which failure it is.
func TestOthersReadOurRefusals(t *testing.T) {
	dir := t.TempDir()
	words := map[tsp.FailInfo]string{
		tsp.BadAlg: "algorithm identifier", tsp.BadRequest: "transaction not permitted", tsp.BadDataFormat: "wrong format",
		tsp.TimeNotAvailable: "time source is not available", tsp.UnacceptedPolicy: "policy is not supported",
		tsp.UnacceptedExtension: "extension is not supported", tsp.AddInfoNotAvailable: "additional information", tsp.SystemFailure: "system failure",
	}
	for _, f := range failures {
		b, err := (&tsp.Failure{Info: f, Text: "said so"}).Response().Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tsr"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		text := openssl(t, dir, "-reply", "-in", "tsr", "-text")
		if !strings.Contains(text, words[f]) || !strings.Contains(text, "Status: Rejected.") || !strings.Contains(text, "said so") {
			t.Errorf("%v: openssl says\n%s", f, text)
		}
		if _, err := timestamp.ParseResponse(b); err == nil || !strings.Contains(err.Error(), timestamp.FailureInfo(f.Bit()).String()) {
			t.Errorf("%v: digitorus says %v", f, err)
		}
	}
}

func TestFailInfoNames(t *testing.T) {
	for f, want := range map[tsp.FailInfo]string{0: "none", tsp.BadAlg: "badAlg", tsp.SystemFailure: "systemFailure", 9: "failInfo bit 8"} {
		if f.String() != want {
			t.Errorf("%d is %q, want %q", f, f, want)
		}
	}
	if err := error(&tsp.Failure{Info: tsp.BadAlg, Text: "no"}); err.Error() != "tsp: no (badAlg)" {
		t.Error(err)
	}
}

func TestResponseRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"empty":                   seq(),
		"a tail":                  append(seq(seq(der(2))), 0),
		"no status":               seq(seq()),
		"status 6":                seq(seq(der(6))),
		"status -1":               seq(seq(der(-1))),
		"granted without token":   seq(seq(der(0))),
		"refused with token":      seq(seq(der(2)), seq()),
		"granted with failInfo":   seq(seq(der(0), tlv(3, []byte{7, 0x80})), seq()),
		"token not a sequence":    seq(seq(der(0)), der(1)),
		"two tokens":              seq(seq(der(0)), seq(), seq()),
		"no text":                 seq(seq(der(2), seq())),
		"text of another type":    seq(seq(der(2), seq(tlv(0x16, []byte("x"))))),
		"text not UTF-8":          seq(seq(der(2), seq(tlv(0x0c, []byte{0xff})))),
		"too many texts":          seq(seq(der(2), seq(bytes.Repeat(tlv(0x0c, []byte("x")), 17)))),
		"failInfo of wrong shape": seq(seq(der(2), tlv(3, []byte{9, 0x80}))),
		"status with a tail":      seq(seq(der(2), tlv(3, []byte{7, 0x80}), der(1))),
		"too large":               make([]byte, tsp.MaxResponse+1),
	} {
		if r, err := tsp.ParseResponse(b); err == nil || !reflect.DeepEqual(r, tsp.Response{}) {
			t.Errorf("%s: %+v, error %v", name, r, err)
		}
	}
}

func TestResponsesOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		der  []byte
		info tsp.FailInfo
		text string
	}{
		"two texts":              {seq(seq(der(2), seq(tlv(0x0c, []byte("a")), tlv(0x0c, []byte("b"))))), 0, "a\nb"},
		"two failures":           {seq(seq(der(2), tlv(3, []byte{2, 0x24}))), tsp.BadRequest, ""},
		"zeros after the bit":    {seq(seq(der(2), tlv(3, []byte{0, 0x80, 0, 0, 0}))), tsp.BadAlg, ""},
		"an unknown failure":     {seq(seq(der(2), tlv(3, []byte{0, 0, 0, 0, 0x01}))), tsp.SystemFailure, ""},
		"an unknown early one":   {seq(seq(der(2), tlv(3, []byte{6, 0x40}))), 2, ""},
		"no bit in the bit list": {seq(seq(der(2), tlv(3, []byte{0}))), 0, ""},
	} {
		r, err := tsp.ParseResponse(c.der)
		if err != nil || r.FailInfo != c.info || r.Text != c.text {
			t.Errorf("%s: %+v, error %v", name, r, err)
		}
	}
}

func TestResponseNotMarshalled(t *testing.T) {
	for name, r := range map[string]tsp.Response{
		"granted, no token":  {},
		"refused, a token":   {Status: tsp.Rejection, Token: seq()},
		"granted, a failure": {Token: seq(), FailInfo: tsp.BadAlg},
		"status 9":           {Status: 9},
		"text not UTF-8":     {Status: tsp.Rejection, Text: "\xff"},
	} {
		if b, err := r.Marshal(); err == nil {
			t.Errorf("%s: %x", name, b)
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	for _, r := range responses() {
		b, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := tsp.ParseResponse(data)
		if err != nil {
			return
		}
		b, err := r.Marshal()
		if err != nil {
			t.Fatalf("%+v cannot be marshalled: %v", r, err)
		}
		if again, err := tsp.ParseResponse(b); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, error %v", r, again, err)
		}
	})
}
