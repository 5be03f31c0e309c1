package portal

import (
	"strings"
	"testing"
	"time"
)

// FuzzDecodeSign: whatever comes, it is read quickly, and refused as a problem or read into fields that are texts.
func FuzzDecodeSign(f *testing.F) {
	f.Add("application/json", []byte(`{"prescription_id":"RX-1","consent_text":null,"x":[1,{"a":2}]}`))
	f.Add("application/json; charset=utf-8", []byte(`{"dosage":"\ud800"}`))
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"dosage\"\r\n\r\none\r\n--x--\r\n"))
	f.Add("multipart/form-data; boundary=x", []byte(strings.Repeat("--x\r\n\r\n", 1000)))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		start := time.Now()
		b, _, wrong, err := decodeSign(contentType, body)
		if d := time.Since(start); d > time.Second {
			t.Errorf("%v for %d bytes", d, len(body))
		}
		if _, is := err.(*Problem); err != nil && !is {
			t.Errorf("%T: %v", err, err)
		}
		if len(wrong) > 3*maxWrong {
			t.Errorf("%d fields are named", len(wrong))
		}
		b.consent()
		b.prescription()
	})
}
