package pdf

import (
	"bytes"
	"compress/lzw"
	"encoding/ascii85"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

var sample = []byte(strings.Repeat("To be or not to be, that is the question. ", 300) + "\x00\xff\x80")

func a85(b []byte) []byte {
	out := make([]byte, ascii85.MaxEncodedLen(len(b)))
	return append(out[:ascii85.Encode(out, b)], "~>"...)
}

func runLength(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := 1
		for n < len(b) && n < 128 && b[n] == b[0] {
			n++
		}
		if n > 1 {
			out = append(out, byte(257-n), b[0])
		} else {
			out = append(out, 0, b[0])
		}
		b = b[n:]
	}
	return append(out, 128)
}

// unearly is LZW as in GIF but with the high bit first, which is EarlyChange 0.
func unearly(b []byte) []byte {
	var out bytes.Buffer
	w := lzw.NewWriter(&out, lzw.MSB, 8)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func decodeText(t *testing.T, dict string, raw []byte) ([]byte, error) {
	t.Helper()
	f := open(t, onePage("", ""))
	o, err := parseText("<< " + dict + " >>")
	if err != nil {
		t.Fatal(err)
	}
	return f.Decode(&Stream{o.(Dict), raw})
}

func TestFilters(t *testing.T) {
	// ISO 32000-2 §7.4.4.2 example: 45 45 45 45 45 65 45 45 45 66.
	spec := []byte{45, 45, 45, 45, 45, 65, 45, 45, 45, 66}
	for _, c := range []struct {
		dict string
		raw  []byte
		want []byte
	}{
		{"", sample, sample},
		{"/Filter null", sample, sample},
		{"/Filter []", sample, sample},
		{"/Filter /FlateDecode", deflate(sample), sample},
		{"/Filter /FlateDecode", append(deflate(sample), "\r\n"...), sample},
		{"/Filter [/FlateDecode] /DecodeParms [null]", deflate(sample), sample},
		{"/Filter [/FlateDecode] /DecodeParms << /Predictor 1 >>", deflate(sample), sample},
		{"/Filter /FlateDecode /DecodeParms [<< /Predictor 1 >>]", deflate(sample), sample},
		{"/Filter [/ASCIIHexDecode /FlateDecode]", []byte(hex.EncodeToString(deflate(sample)) + ">"), sample},
		{"/Filter /ASCIIHexDecode", []byte("4 8\n65 7>"), []byte("Hep")},
		{"/Filter [/ASCII85Decode /FlateDecode]", a85(deflate(sample)), sample},
		{"/Filter /ASCII85Decode", []byte("z!!\n!!!~>"), make([]byte, 8)},
		{"/Filter /RunLengthDecode", runLength(sample), sample},
		{"/Filter /LZWDecode", []byte{0x80, 0x0B, 0x60, 0x50, 0x22, 0x0C, 0x0C, 0x85, 0x01}, spec},
		{"/Filter /LZWDecode /DecodeParms << /EarlyChange 0 >>", unearly(sample), sample},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 15 /Columns 3 >>", deflate([]byte{0, 1, 2, 3, 1, 1, 1, 1, 2, 1, 1, 1, 3, 2, 2, 2, 4, 1, 1, 1}),
			[]byte{1, 2, 3, 1, 2, 3, 2, 3, 4, 3, 5, 6, 4, 6, 7}},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 2 /Columns 2 /Colors 2 >>", deflate([]byte{1, 2, 3, 4, 5, 6, 7, 8}), []byte{1, 2, 4, 6, 5, 6, 12, 14}},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 2 /Columns 3 /BitsPerComponent 16 >>", deflate([]byte{0, 255, 0, 1, 255, 255}), []byte{0, 255, 1, 0, 0, 255}},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 2 /Columns 4 /BitsPerComponent 4 >>", deflate([]byte{0x12, 0xff}), []byte{0x13, 0x21}},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 12 /Columns 5 >>", deflate(nil), nil},
	} {
		got, err := decodeText(t, c.dict, c.raw)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %.60x, %v; want %.60x", c.dict, got, err, c.want)
		}
	}
}

func TestFiltersRefuse(t *testing.T) {
	for _, c := range []struct {
		dict, raw string
		kind      fault.Kind
		want      string
	}{
		{"/Filter 7", "", fault.Invalid, "neither a name nor an array"},
		{"/Filter [7]", "", fault.Invalid, "not a name"},
		{"/Filter [/FlateDecode /FlateDecode] /DecodeParms [null]", "", fault.Invalid, "parameters for 1"},
		{"/Filter [/FlateDecode /FlateDecode] /DecodeParms << >>", "", fault.Invalid, "is not an array"},
		{"/Filter [" + strings.Repeat("/FlateDecode ", 9) + "]", "", fault.TooLarge, "9 filters"},
		{"/Filter /DCTDecode", "", fault.Unsupported, "filter DCTDecode: images are not decoded"},
		{"/Filter /Crypt", "", fault.Unsupported, "not known"},
		{"/Filter /Fl", "", fault.Unsupported, "not known"},
		{"/F (x)", "", fault.Unsupported, "in another file"},
		{"/Filter /FlateDecode", "", fault.Invalid, "damaged"},
		{"/Filter /FlateDecode", string(deflate(sample)[:50]), fault.Invalid, "cut off"},
		{"/Filter /FlateDecode", string(deflate(sample)[:len(deflate(sample))-4]) + "\x00\x00\x00\x00", fault.Invalid, "damaged"},
		{"/Filter /ASCIIHexDecode", "41", fault.Invalid, "end mark"},
		{"/Filter /ASCIIHexDecode", "4x>", fault.Invalid, "'x' at byte 1"},
		{"/Filter /ASCII85Decode", "!!!!!", fault.Invalid, "end mark"},
		{"/Filter /ASCII85Decode", "!!!!!~", fault.Invalid, "end mark"},
		{"/Filter /ASCII85Decode", "!~>", fault.Invalid, "one character"},
		{"/Filter /ASCII85Decode", "uuuuu~>", fault.Invalid, "out of range"},
		{"/Filter /ASCII85Decode", "uu~>", fault.Invalid, "out of range"},
		{"/Filter /ASCII85Decode", "!z~>", fault.Invalid, "'z' at byte 1"},
		{"/Filter /RunLengthDecode", "\x05ab", fault.Invalid, "cut off"},
		{"/Filter /RunLengthDecode", "\xf0", fault.Invalid, "cut off"},
		{"/Filter /RunLengthDecode", "\x00a", fault.Invalid, "end mark"},
		{"/Filter /LZWDecode", "\x80\x0b", fault.Invalid, "end mark"},
		{"/Filter /LZWDecode", "\x80\x7f\xff\xff", fault.Invalid, "before its time"},
		{"/Filter /LZWDecode /DecodeParms << /EarlyChange /x >>", "", fault.Invalid, "not an integer"},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 15 /Columns 7 >>", string(deflate([]byte("abc"))), fault.Invalid, "within a row"},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 2 /Columns 7 >>", string(deflate([]byte("abc"))), fault.Invalid, "within a row"},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 15 /Columns 2 >>", string(deflate([]byte("\x05bc"))), fault.Invalid, "PNG filter 5"},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 15 /Columns 1073741824 /Colors 256 /BitsPerComponent 16 >>", string(deflate([]byte("abc"))), fault.Invalid, "within a row"},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 15 /Columns 0 >>", string(deflate(nil)), fault.Invalid, "/Columns is 0"},
		{"/Filter /FlateDecode /DecodeParms << /Predictor 15 /BitsPerComponent 7 >>", string(deflate(nil)), fault.Invalid, "/BitsPerComponent is 7"},
	} {
		_, err := decodeText(t, c.dict, []byte(c.raw))
		refused(t, err, rejection{"", nil, c.kind, c.want})
	}
}

// Bombs stop at the limit of one stream, and then at what is left for all of them.
func TestDecodeBombs(t *testing.T) {
	zeros := make([]byte, 40<<20)
	once := deflate(zeros)
	for dict, raw := range map[string][]byte{
		"/Filter /FlateDecode":                                 once,
		"/Filter [/FlateDecode /FlateDecode]":                  deflate(once),
		"/Filter /RunLengthDecode":                             append(bytes.Repeat([]byte{129, 0}, 1<<18), 128),
		"/Filter /LZWDecode /DecodeParms << /EarlyChange 0 >>": unearly(zeros),
	} {
		_, err := decodeText(t, dict, raw)
		refused(t, err, rejection{"", nil, fault.TooLarge, "decodes to more than"})
	}
	f := open(t, onePage("", ""))
	s := &Stream{Dict{"Filter": Name("FlateDecode")}, deflate(zeros[:10<<20])}
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = f.Decode(s)
	}
	refused(t, err, rejection{"", nil, fault.TooLarge, fmt.Sprint("decode to more than ", totalBase)})
}
