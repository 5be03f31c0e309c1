package portal

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// TestDemonstrationIsMarked: the page that a demo signs says that it is none; a real appliance's says nothing of it; the request has no say, and what the
// signer is told of the data is the same.
func TestDemonstrationIsMarked(t *testing.T) {
	told := map[bool]string{}
	for _, demo := range []bool{true, false} {
		p, d := newPortal(t, nil)
		status := d.do[wire.OpStatus]
		d.do[wire.OpStatus] = func(in any, fd *os.File) (any, *os.File, error) {
			got, _, err := status(in, fd)
			s := got.(wire.Status)
			s.Demo = demo
			return s, nil, err
		}
		d.do[wire.OpSignOpen] = func(in any, _ *os.File) (any, *os.File, error) {
			told[demo] = string(in.(wire.SignOpen).Prescription)
			return wire.SignOpened{Operation: "op-1", Name: "Doctor Clinician", RegisterName: "GMC", RegistrationNumber: "7654321", Time: time.Now(), SignatureSize: 4000, StampSize: 2000}, nil, nil
		}
		d.do[wire.OpSign] = func(any, *os.File) (any, *os.File, error) {
			return wire.Signature{CMS: []byte{0x30, 0}, Certs: [][]byte{d.root.Raw}}, nil, nil
		}
		d.do[wire.OpStamp] = func(any, *os.File) (any, *os.File, error) { return wire.Stamped{Token: []byte{0x30, 0}}, nil, nil }
		var document []byte
		d.do[wire.OpComplete] = func(_ any, fd *os.File) (any, *os.File, error) {
			var err error
			document, err = io.ReadAll(io.NewSectionReader(fd, 0, 1<<20))
			return wire.SignResult{PrescriptionID: "RX-134"}, nil, err
		}
		if w := ask(p, "POST", "/api/sign", signJSON(t, nil), authorised("Content-Type", "application/json")...); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		file := filepath.Join(t.TempDir(), "signed.pdf")
		if err := os.WriteFile(file, document, 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := exec.Command("pdftotext", file, "-").Output()
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "DEMONSTRATION – NOT A PRESCRIPTION"); n != map[bool]int{true: 2, false: 0}[demo] || !strings.Contains(string(text), "Amoxicillin") {
			t.Errorf("demo %v: marked %d times\n%s", demo, n, text)
		}
	}
	if told[true] != told[false] || told[true] == "" {
		t.Errorf("the signer is told %s and %s", told[true], told[false])
	}
}
