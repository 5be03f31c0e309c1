package tsp_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/tsp"
)

func infos() map[string]tsp.TSTInfo {
	base := func(change func(*tsp.TSTInfo)) tsp.TSTInfo {
		t := tsp.TSTInfo{Policy: policy, Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: bytes.Repeat([]byte{7}, 32)},
			Serial: big.NewInt(1), GenTime: time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)}
		change(&t)
		return t
	}
	return map[string]tsp.TSTInfo{
		"bare":        base(func(t *tsp.TSTInfo) {}),
		"serial 0":    base(func(t *tsp.TSTInfo) { t.Serial = big.NewInt(0) }),
		"160 bits":    base(func(t *tsp.TSTInfo) { t.Serial = new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, 20)) }),
		"millisecond": base(func(t *tsp.TSTInfo) { t.GenTime = t.GenTime.Add(120 * time.Millisecond) }),
		"nanosecond":  base(func(t *tsp.TSTInfo) { t.GenTime = t.GenTime.Add(1) }),
		"year 9999":   base(func(t *tsp.TSTInfo) { t.GenTime = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC) }),
		"year 1":      base(func(t *tsp.TSTInfo) { t.GenTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"second":      base(func(t *tsp.TSTInfo) { t.Accuracy = time.Second }),
		"millis":      base(func(t *tsp.TSTInfo) { t.Accuracy = 999 * time.Millisecond }),
		"micros":      base(func(t *tsp.TSTInfo) { t.Accuracy = 128 * time.Microsecond }),
		"all three":   base(func(t *tsp.TSTInfo) { t.Accuracy = 3*time.Second + 200*time.Millisecond + 999*time.Microsecond }),
		"everything": base(func(t *tsp.TSTInfo) {
			t.Accuracy, t.Ordering, t.Nonce, t.TSA = time.Second, true, big.NewInt(-5), tlv(0xa4, seq())
		}),
	}
}

func TestTSTInfoLaw(t *testing.T) {
	for name, info := range infos() {
		b, err := info.Marshal()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := tsp.ParseTSTInfo(b)
		if err == nil && got.Serial.Cmp(info.Serial) == 0 {
			got.Serial = info.Serial // two zeros need not be deeply equal
		}
		if err != nil || !reflect.DeepEqual(got, info) {
			t.Errorf("%s: %+v, error %v, want %+v", name, got, err, info)
		}
	}
}

func TestTimeIsWrittenInUTC(t *testing.T) {
	info := infos()["bare"]
	info.GenTime = time.Date(2026, 7, 1, 1, 30, 0, 0, time.FixedZone("BST", 3600))
	b, err := info.Marshal()
	if err != nil || !bytes.Contains(b, []byte("20260701003000Z")) {
		t.Errorf("%q, error %v", b, err)
	}
}

// TestImprintIsRepeated keeps the request's form of the imprint, parameters and all: RFC 3161 §2.4.2 asks for the same value.
func TestImprintIsRepeated(t *testing.T) {
	for _, params := range [][]byte{nil, null} {
		want := seq(seq(idSHA256, params), tlv(4, make([]byte, 32)))
		r, err := tsp.ParseRequest(seq(der(1), want))
		if err != nil {
			t.Fatal(err)
		}
		info := infos()["bare"]
		info.Imprint = r.Imprint
		b, err := info.Marshal()
		if err != nil || !bytes.Contains(b, want) {
			t.Errorf("parameters %x: %x, error %v", params, b, err)
		}
	}
}

func TestTSTInfoRefused(t *testing.T) {
	genTime := func(s string) []byte { return tlv(0x18, []byte(s)) }
	good := genTime("20260228235959Z")
	build := func(parts ...[]byte) []byte {
		return seq(append([][]byte{der(1), der(policy), imprint, der(1)}, parts...)...)
	}
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"a tail":               append(build(good), 0),
		"version 2":            seq(der(2), der(policy), imprint, der(1), good),
		"no policy":            seq(der(1), imprint, der(1), good),
		"SHA-1":                seq(der(1), der(policy), seq(seq(idSHA1), tlv(4, make([]byte, 20))), der(1), good),
		"short imprint":        seq(der(1), der(policy), seq(seq(idSHA256), tlv(4, make([]byte, 20))), der(1), good),
		"negative serial":      seq(der(1), der(policy), imprint, der(-1), good),
		"serial of 161 bits":   seq(der(1), der(policy), imprint, der(new(big.Int).Lsh(big.NewInt(1), 160)), good),
		"serial of 22 bytes":   seq(der(1), der(policy), imprint, tlv(2, bytes.Repeat([]byte{1}, 22)), good),
		"no time":              build(),
		"UTCTime":              build(tlv(0x17, []byte("260228235959Z"))),
		"no Z":                 build(genTime("20260228235959")),
		"offset":               build(genTime("20260228235959+0000")),
		"no seconds":           build(genTime("202602282359Z")),
		"second 60":            build(genTime("20260228235960Z")),
		"30 February":          build(genTime("20260230000000Z")),
		"year 0":               build(genTime("00000101000000Z")),
		"fraction of zero":     build(genTime("20260228235959.0Z")),
		"fraction with a zero": build(genTime("20260228235959.50Z")),
		"fraction of nothing":  build(genTime("20260228235959.Z")),
		"fraction with comma":  build(genTime("20260228235959,5Z")),
		"fraction too fine":    build(genTime("20260228235959.1234567891Z")),
		"time with blanks":     build(genTime(" 20260228235959Z")),
		"very long time":       build(genTime("20260228235959." + string(bytes.Repeat([]byte{'1'}, 5000)) + "Z")),
		"millis 0":             build(good, seq(tlv(0x80, []byte{0}))),
		"millis 1000":          build(good, seq(tlv(0x80, []byte{3, 0xe8}))),
		"micros before millis": build(good, seq(tlv(0x81, []byte{1}), tlv(0x80, []byte{1}))),
		"negative seconds":     build(good, seq(der(-1))),
		"centuries":            build(good, seq(der(1<<40))),
		"accuracy with a tail": build(good, seq(der(1), der(1))),
		"ordering FALSE":       build(good, []byte{1, 1, 0}),
		"nonce too long":       build(good, tlv(2, bytes.Repeat([]byte{1}, tsp.MaxNonce+1))),
		"tsa empty":            build(good, tlv(0xa0)),
		"tsa twice":            build(good, tlv(0xa0, tlv(0x82), tlv(0x82))),
		"critical extension":   build(good, tlv(0xa1, seq(der(policy), []byte{1, 1, 0xff}, tlv(4)))),
		"extension, no value":  build(good, tlv(0xa1, seq(der(policy)))),
		"an unknown element":   build(good, tlv(0xa2)),
		"accuracy after nonce": build(good, der(1), seq(der(1))),
		"too large":            build(good, tlv(0xa0, tlv(0x82, make([]byte, 60000))), make([]byte, 6000)),
	} {
		info, err := tsp.ParseTSTInfo(b)
		if err == nil || !reflect.DeepEqual(info, tsp.TSTInfo{}) {
			t.Errorf("%s: %+v, error %v", name, info, err)
		}
	}
	if _, err := tsp.ParseTSTInfo(build(good, tlv(0xa1, seq(der(policy), tlv(4))))); err != nil {
		t.Errorf("an extension that is not critical: %v", err)
	}
}

func TestTSTInfoNotMarshalled(t *testing.T) {
	for name, change := range map[string]func(*tsp.TSTInfo){
		"no imprint":         func(t *tsp.TSTInfo) { t.Imprint = tsp.Imprint{} },
		"no policy":          func(t *tsp.TSTInfo) { t.Policy = nil },
		"impossible policy":  func(t *tsp.TSTInfo) { t.Policy = asn1.ObjectIdentifier{7, 7} },
		"no serial":          func(t *tsp.TSTInfo) { t.Serial = nil },
		"negative serial":    func(t *tsp.TSTInfo) { t.Serial = big.NewInt(-1) },
		"161 bits":           func(t *tsp.TSTInfo) { t.Serial = new(big.Int).Lsh(big.NewInt(1), 160) },
		"year 10000":         func(t *tsp.TSTInfo) { t.GenTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"negative accuracy":  func(t *tsp.TSTInfo) { t.Accuracy = -time.Second },
		"accuracy of 100 ns": func(t *tsp.TSTInfo) { t.Accuracy = 100 },
		"long nonce":         func(t *tsp.TSTInfo) { t.Nonce = new(big.Int).Lsh(big.NewInt(1), 8*tsp.MaxNonce) },
	} {
		info := infos()["bare"]
		change(&info)
		if b, err := info.Marshal(); err == nil {
			t.Errorf("%s: %x", name, b)
		}
	}
}

func FuzzParseTSTInfo(f *testing.F) {
	for _, info := range infos() {
		b, err := info.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := tsp.ParseTSTInfo(data)
		if err != nil {
			return
		}
		b, err := info.Marshal()
		if err != nil {
			t.Fatalf("%+v cannot be marshalled: %v", info, err)
		}
		if again, err := tsp.ParseTSTInfo(b); err != nil || !reflect.DeepEqual(again, info) {
			t.Errorf("%+v became %+v, error %v", info, again, err)
		}
	})
}
