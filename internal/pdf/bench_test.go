package pdf

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
)

// lta is what one B-LTA signature does with a file: sign, add material, stamp; each digest taken.
func lta(b *testing.B, data []byte, der []byte, d DSS) *File {
	f, err := Open(data, Limits{})
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range []SignatureOptions{{M: testTime, ContentsSize: 4096, Name: "Doctor Clinician"}, {Type: "DocTimeStamp", ContentsSize: 4096}} {
		p, err := Prepare(f, o)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Digest(crypto.SHA256); err != nil {
			b.Fatal(err)
		}
		if f, err = p.Embed(der); err != nil {
			b.Fatal(err)
		}
		if o.Type == "" {
			if f, err = AppendDSS(f, d); err != nil {
				b.Fatal(err)
			}
		}
	}
	return f
}

// material is a DSS of about the size that the demo's has.
func material() DSS {
	var d DSS
	for i := range 6 {
		d.Certs = append(d.Certs, bytes.Repeat([]byte{byte(i)}, 700))
	}
	for i := range 4 {
		d.OCSPs = append(d.OCSPs, bytes.Repeat([]byte{byte(i)}, 1200))
	}
	return d
}

func BenchmarkSmall(b *testing.B) {
	content := deflate(bytes.Repeat([]byte("BT /F1 12 Tf 72 700 Td (Amoxicillin) Tj ET\n"), 60))
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"table", newBuilder().page("", "/Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >>").stream(4, "/Filter /FlateDecode", content).obj(5, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>").table("").b},
		{"stream", onePageStream("", "")},
	} {
		b.Run(c.name, func(b *testing.B) {
			der, d := make([]byte, 3300), material()
			b.ReportAllocs()
			for b.Loop() {
				lta(b, append(make([]byte, 0, len(c.data)+64<<10), c.data...), der, d)
			}
		})
	}
}

// large is a file of about 50 MB: images, and a thousand pages.
func large() []byte {
	noise := rand.NewChaCha8([32]byte{})
	d := newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>")
	var kids bytes.Buffer
	d.b = append(make([]byte, 0, 52<<20), d.b...)
	for i := range 1000 {
		img := make([]byte, 50<<10)
		noise.Read(img)
		n := 10 + 3*i
		d.stream(n, "/Type /XObject /Subtype /Image /Width 160 /Height 320 /ColorSpace /DeviceGray /BitsPerComponent 8", img)
		d.stream(n+1, "", []byte("q 100 0 0 200 72 500 cm /I Do Q"))
		d.obj(n+2, fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R /Resources << /XObject << /I %d 0 R >> >> >>", n+1, n))
		fmt.Fprintf(&kids, "%d 0 R ", n+2)
	}
	return d.obj(2, "<< /Type /Pages /Count 1000 /Kids ["+kids.String()+"] >>").table("").b
}

func BenchmarkLarge(b *testing.B) {
	data := large()
	b.Run("hash", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			sha256.Sum256(data)
		}
	})
	b.Run("lta", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		der, d := make([]byte, 3300), material()
		b.ReportAllocs()
		for b.Loop() {
			lta(b, data, der, d)
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := Open(data, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A large file is held twice at most: as it came, and with what was added.
func TestLargeFileMemory(t *testing.T) {
	data := large()
	data = data[:len(data):len(data)]
	var f *File
	grown := watch(func() {
		f = sign(t, open(t, data), SignatureOptions{})
		g, err := AppendDSS(f, material())
		if err != nil {
			t.Fatal(err)
		}
		f = sign(t, g, SignatureOptions{Type: "DocTimeStamp"})
	})
	t.Logf("%d MB file, heap grew by %d MB", len(data)>>20, grown>>20)
	if grown > uint64(len(data))*3/2 {
		t.Errorf("the heap grew by %d MB for a file of %d MB", grown>>20, len(data)>>20)
	}
	if !bytes.HasPrefix(f.Bytes(), data) {
		t.Error("bytes that were there have changed")
	}
}
