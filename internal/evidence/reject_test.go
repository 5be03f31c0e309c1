package evidence

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"
	"testing"
)

// sample is a small archive of two entries: a at 0, then bb.
func sample(t testing.TB) []byte {
	t.Helper()
	return must[[]byte](t)(encodeArchive([]entry{{"a", []byte("one")}, {"b", []byte("second")}}))
}

const (
	secondLocal  = sizeLocal + 1 + 3
	firstCentral = secondLocal + sizeLocal + 1 + 6
	theEnd       = firstCentral + 2*(sizeCentral+1)
)

// Everything that zip allows and a pack does not have, and the tricks that zip readers have fallen for.
func TestArchiveRejects(t *testing.T) {
	set := func(at int, bytes ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], bytes); return b }
	}
	both := func(local, central func([]byte) []byte) func([]byte) []byte {
		return func(b []byte) []byte { return central(local(b)) }
	}
	insert := func(at int, more string) func([]byte) []byte {
		return func(b []byte) []byte { return append(append(bytes.Clone(b[:at]), more...), b[at:]...) }
	}
	standard := func(method uint16, comment string) func([]byte) []byte {
		return func([]byte) []byte {
			var b bytes.Buffer
			z := zip.NewWriter(&b)
			w := must[io.Writer](t)(z.CreateHeader(&zip.FileHeader{Name: "a", Method: method}))
			_ = must[int](t)(w.Write([]byte("one")))
			if err := z.SetComment(comment); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
	}
	raw := func(e ...entry) func([]byte) []byte { return func([]byte) []byte { return lenient(e) } }
	for name, c := range map[string]struct {
		change func([]byte) []byte
		text   string
	}{
		"nothing":                        {func([]byte) []byte { return nil }, "does not begin with an entry"},
		"no entries":                     {func(b []byte) []byte { return b[len(b)-sizeEnd:] }, "does not begin with an entry"},
		"bytes before":                   {insert(0, "#!/bin/sh\n"), "does not begin with an entry"},
		"bytes between the entries":      {insert(secondLocal, "x"), "is missing, or bytes that belong to nothing"},
		"bytes before the directory":     {insert(firstCentral, "x"), "is missing, or bytes that belong to nothing"},
		"bytes before the end record":    {insert(theEnd, "x"), "does not end after the last entry"},
		"bytes behind":                   {func(b []byte) []byte { return append(b, 'x') }, "1 bytes follow its end"},
		"a comment":                      {func(b []byte) []byte { return append(set(theEnd+20, 2)(b), "hi"...) }, "it has a comment"},
		"a comment that is a zip file":   {func(b []byte) []byte { return append(set(theEnd+20, byte(len(b)))(b), b...) }, "it has a comment"},
		"a comment of an entry":          {set(firstCentral+32, 1), "it has a comment"},
		"cut in a header":                {func(b []byte) []byte { return b[:10] }, "its header is cut off"},
		"cut in the data":                {func(b []byte) []byte { return b[:sizeLocal+2] }, "ends before its 3 bytes"},
		"cut in the directory":           {func(b []byte) []byte { return b[:firstCentral+20] }, "it is cut off"},
		"cut before the end record":      {func(b []byte) []byte { return b[:theEnd] }, "does not end after the last entry"},
		"cut in the end record":          {func(b []byte) []byte { return b[:theEnd+10] }, "does not end after the last entry"},
		"encrypted":                      {set(6, 1), "it is encrypted"},
		"strongly encrypted":             {set(6, 0x41), "it is encrypted"},
		"a data descriptor":              {set(6, 8), "data descriptor"},
		"UTF-8 flag":                     {set(7, 8), "flags 0x0800"},
		"deflated":                       {set(8, 8), "it is compressed (method 8)"},
		"AES":                            {set(8, 99), "it is compressed (method 99)"},
		"zip64 sizes":                    {set(18, 255, 255, 255, 255, 255, 255, 255, 255), "zip64"},
		"stored in another size":         {set(18, 2), "3 bytes stored as 2"},
		"a bomb":                         {set(22, 0, 0, 0, 64), "bytes stored as 3"},
		"an extra field":                 {set(28, 4), "an extra field of 4 bytes"},
		"another version":                {set(4, 45), "version 45"},
		"a time":                         {set(10, 1), "a time of its own"},
		"a wrong CRC":                    {set(14, 1), "a: its CRC does not match"},
		"changed data":                   {set(sizeLocal+1, 'O'), "a: its CRC does not match"},
		"another name in the directory":  {set(firstCentral+sizeCentral, 'c'), "says otherwise than the entry a itself"},
		"another size in the directory":  {set(firstCentral+24, 2), "says otherwise than the entry a itself"},
		"another CRC in the directory":   {set(firstCentral+16, 1), "says otherwise than the entry a itself"},
		"other flags in the directory":   {set(firstCentral+8, 1), "says otherwise than the entry a itself"},
		"another method in the director": {set(firstCentral+10, 8), "says otherwise than the entry a itself"},
		"another place":                  {set(firstCentral+42, secondLocal), "it places a elsewhere"},
		"both at one place":              {set(firstCentral+sizeCentral+1+42, 0), "it places b elsewhere"},
		"made on Unix":                   {set(firstCentral+5, 3), "attributes, or was made by another system"},
		"a symbolic link":                {set(firstCentral+41, 0xa1), "attributes, or was made by another system"},
		"on another disk":                {set(firstCentral+34, 1), "attributes, or was made by another system"},
		"fewer in the directory": {func(b []byte) []byte {
			return append(bytes.Clone(b[:firstCentral]), b[firstCentral+sizeCentral+1:]...)
		}, "says otherwise than the entry a itself"},
		"more in the directory": {func(b []byte) []byte {
			return append(append(bytes.Clone(b[:theEnd]), b[firstCentral:firstCentral+sizeCentral+1]...), b[theEnd:]...)
		}, "it lists others"},
		"fewer counted":              {both(set(theEnd+8, 1), set(theEnd+10, 1)), "its end counts 1 entries, not 2"},
		"two counts":                 {set(theEnd+8, 1), "its end counts 2 entries"},
		"zip64 count":                {set(theEnd+8, 255, 255, 255, 255), "zip64 record"},
		"zip64 place":                {set(theEnd+16, 255, 255, 255, 255), "zip64 record"},
		"directory placed elsewhere": {set(theEnd+16, 1), "places the central directory elsewhere"},
		"directory of another size":  {set(theEnd+12, 1), "places the central directory elsewhere"},
		"split over disks":           {set(theEnd+4, 1), "not written as an evidence pack is"},
		"a path upwards":             {raw(entry{"../a", nil}), `the name "../a" is a path`},
		"an absolute path":           {raw(entry{"/a", nil}), `the name "/a" is a path`},
		"a drive":                    {raw(entry{"C:a", nil}), "is a path"},
		"a backslash":                {raw(entry{`a\b`, nil}), "is a path"},
		"a folder":                   {raw(entry{"a/", nil}), "is a path"},
		"a hidden file":              {raw(entry{".a", nil}), "is a path"},
		"a name with a zero byte":    {raw(entry{"a\x00.pdf", nil}), "is a path"},
		"no name":                    {raw(entry{"", nil}), "a name of 0 bytes"},
		"a long name":                {raw(entry{strings.Repeat("a", 65), nil}), "a name of 65 bytes"},
		"a name twice":               {raw(entry{"a", nil}, entry{"a", []byte("x")}), `two entries are named "a"`},
		"too many":                   {raw(make([]entry, maxEntries+1)...), "a name of 0 bytes"},
		"of another program":         {standard(zip.Store, ""), "data descriptor"},
		"compressed by another":      {standard(zip.Deflate, ""), "data descriptor"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeArchive(c.change(bytes.Clone(sample(t))))
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %q", err, c.text)
			}
		})
	}
}

// lenient is encodeArchive without its checks.
func lenient(entries []entry) []byte {
	var b, central []byte
	for _, e := range entries {
		h := headerOf(e)
		central = h.append(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint32(central, sigCentral), version))
		central = append(central, make([]byte, 14)...)
		central = append(central, e.name...)
		b = append(h.append(binary.LittleEndian.AppendUint32(b, sigLocal)), e.name...)
		b = append(b, e.data...)
	}
	return append(b, central...)
}

// What is wrong with a pack whose archive is right, and the check that finds it.
func TestPackRejects(t *testing.T) {
	// remake builds the pack anew with changed files, and a manifest that agrees.
	remake := func(t *testing.T, f *fixture, change func(map[string][]byte)) []byte {
		entries := must[[]entry](t)(f.pack.files())
		files := map[string][]byte{}
		for _, e := range entries {
			files[e.name] = e.data
		}
		change(files)
		var list []entry
		for _, e := range append(entries[:1:1], entries[2:]...) {
			list = append(list, entry{e.name, files[e.name]})
		}
		m := must[[]byte](t)(canonical(newManifest(readmeVersion, f.pack.CreatedAt, "RX-134", list)))
		return must[[]byte](t)(encodeArchive(append([]entry{list[0], {nameManifest, m}}, list[1:]...)))
	}
	replace := func(file, old, with string) func(*testing.T, *fixture) []byte {
		return func(t *testing.T, f *fixture) []byte {
			return remake(t, f, func(files map[string][]byte) {
				if !bytes.Contains(files[file], []byte(old)) {
					t.Fatalf("%s does not hold %q", file, old)
				}
				files[file] = bytes.Replace(files[file], []byte(old), []byte(with), 1)
			})
		}
	}
	// again builds the pack after a change of what it is made of.
	again := func(change func(*testing.T, *fixture)) func(*testing.T, *fixture) []byte {
		return func(t *testing.T, f *fixture) []byte { change(t, f); return f.archive(t) }
	}
	entries := func(change func([]entry) []entry) func(*testing.T, *fixture) []byte {
		return func(t *testing.T, f *fixture) []byte {
			return must[[]byte](t)(encodeArchive(change(must[[]entry](t)(f.pack.files()))))
		}
	}
	for name, c := range map[string]struct {
		make  func(*testing.T, *fixture) []byte
		check string
		text  string
	}{
		"not a zip file": {func(*testing.T, *fixture) []byte { return []byte("%PDF-1.7") }, "archive", "does not begin"},
		"a flipped bit":  {func(t *testing.T, f *fixture) []byte { b := f.archive(t); b[len(b)/2] ^= 1; return b }, "archive", "its CRC does not match"},
		"an extra file":  {entries(func(e []entry) []entry { return append(e, entry{"more.txt", nil}) }), "manifest", "more.txt is none of the entries"},
		"a missing file": {entries(func(e []entry) []entry { return e[:len(e)-1] }), "manifest", "does not list exactly"},
		"another order":  {entries(func(e []entry) []entry { e[2], e[3] = e[3], e[2]; return e }), "manifest", "no document.pdf where it is due"},
		"another name":   {entries(func(e []entry) []entry { e[2].name = "other.pdf"; return e }), "manifest", "no document.pdf where it is due"},
		"no manifest":    {entries(func(e []entry) []entry { e[1].name = "manifest.txt"; return e }), "manifest", "no manifest.json where it is due"},
		"another hash":   {entries(func(e []entry) []entry { e[2].data = append(bytes.Clone(e[2].data), '\n'); return e }), "manifest", "document.pdf is not the file that the manifest names"},
		"another format": {entries(func(e []entry) []entry {
			e[1].data = bytes.Replace(e[1].data, []byte("pack/3"), []byte("pack/4"), 1)
			return e
		}), "manifest", `format "aes-evidence-pack/4"`},
		"blanks": {entries(func(e []entry) []entry { e[1].data = append(e[1].data, ' '); return e }), "manifest", "does not list exactly"},
		"a manifest's lie": {entries(func(e []entry) []entry {
			e[1].data = bytes.Replace(e[1].data, []byte("for people"), []byte("for robots"), 1)
			return e
		}), "manifest", "does not list exactly"},
		"another member": {entries(func(e []entry) []entry {
			e[1].data = bytes.Replace(e[1].data, []byte(`{"created_at"`), []byte(`{"a":1,"created_at"`), 1)
			return e
		}), "manifest",
			"unknown field"},

		"another patient":         {replace(nameCore, "Zoë", "Zoe"), "summary", "not made from core.json"},
		"a core with blanks":      {replace(nameCore, `{"activation"`, `{ "activation"`), "core", "not canonical"},
		"a core's other member":   {replace(nameCore, `{"activation"`, `{"a":1,"activation"`), "core", "unknown field"},
		"a fact without basis":    {replace(nameCore, `"basis":"observed","value":"req-1"`, `"basis":"guessed","value":"req-1"`), "core", "how forensic.request_id is known"},
		"a pillar less":           {replace(nameCore, `"intent":`, `"inteny":`), "core", "says nothing intent"},
		"another prescription":    {replace(nameCore, `"RX-134"`, `"RX-135"`), "core", `"RX-135"`},
		"a summary's lie":         {replace(nameSummary, `"status":"signed"`, `"status":"cancelled"`), "summary", "cancel"},
		"a summary's other fact":  {replace(nameSummary, "Zoë", "Zoe"), "summary", "not its core"},
		"another README":          {replace(nameReadme, "It does not show that", "It also shows that"), "readme", "not the one that belongs"},
		"a line changed":          {replace(nameLines, "RX-134", "RX-135"), "parts", "hash does not match"},
		"a proof changed":         {replace(proofName(4), "index 4\n", "index 4\nAAAA\n"), "parts", "is not the base64"},
		"a proof of another line": {replace(proofName(4), "index 4\n", "index 5\n"), "parts", "is of another line"},
		"a proof with more":       {replace(proofName(4), "index 4\n", "extra eA==\nindex 4\n"), "parts", "is of another line"},
		"a proof's other note":    {replace(proofName(4), "aes.example/audit\n7", "aes.example/audit\n8"), "parts", "is of another line"},
		"no lines":                {func(t *testing.T, f *fixture) []byte { f.pack.Lines = nil; return f.archive(t) }, "parts", "1 lines and 0 proofs"},
		"a certificate's junk":    {replace(nameCertificates, "-----BEGIN", "junk\n-----BEGIN"), "parts", "not PEM blocks of type CERTIFICATE"},
		"a key with more":         {replace(nameLogKey, "\n", "\n\n"), "parts", "not one line"},
		"a checkpoint changed": {again(func(t *testing.T, f *fixture) {
			f.pack.Checkpoint = bytes.Replace(f.pack.Checkpoint, []byte("\n7\n"), []byte("\n8\n"), 1)
		}), "checkpoint", "checkpoint"},
		"a cosignature left out": {again(func(t *testing.T, f *fixture) {
			f.pack.Checkpoint = f.pack.Checkpoint[:bytes.LastIndex(f.pack.Checkpoint, []byte("— "))]
		}), "checkpoint", "cosigned otherwise than the summary says"},
		"a cosignature kept quiet": {again(func(t *testing.T, f *fixture) {
			f.live.Checkpoint.Cosignatures[0].Time = judged
			f.live.Checkpoint.Statement = f.live.Checkpoint.statement()
			f.pack.Summary = must[[]byte](t)(Summary(f.pack.Core, f.live))
		}), "checkpoint", "cosigned otherwise than the summary says"},
		"a cosigner of another name": {again(func(t *testing.T, f *fixture) {
			f.live.Checkpoint.Cosignatures[0].Name = "somebody.example"
			f.live.Checkpoint.Statement = f.live.Checkpoint.statement()
			f.pack.Summary = must[[]byte](t)(Summary(f.pack.Core, f.live))
		}), "checkpoint", "named twice, or by another name"},
		"a statement's lie": {replace(nameSummary, `"statement":"The state`, `"statement":"A state`), "summary", "statement is not what its cosignatures amount to"},

		"another document": {again(func(t *testing.T, f *fixture) { f.pack.PDF = append(bytes.Clone(f.pack.PDF), '\n') }), "document", "is about"},
		"a core of another document, in no log": {again(func(t *testing.T, f *fixture) {
			f.in.Prescription.PatientName = "Somebody Else"
			f.pack.Core = must[[]byte](t)(Core(f.in))
			f.finish(t)
		}), "events", "evidence_sha256 in prescription_signed"},
		"another certificate": {again(func(t *testing.T, f *fixture) {
			f.in.Signature.CertificateSHA256 = SHA256(nil)
			f.write(t)
		}), "signature_link", "the signer's certificate is"},
		"another clinician": {again(func(t *testing.T, f *fixture) {
			f.in.Prescription.ClinicianName = "Somebody Else"
			f.write(t)
		}), "signature_link", "its common name is"},
		"another signature": {again(func(t *testing.T, f *fixture) { f.in.Signature.ID = SHA256(nil); f.write(t) }), "signature_link", "does not hold the signature"},
		"another digest":    {again(func(t *testing.T, f *fixture) { f.in.Signature.Digest = SHA256(nil); f.write(t) }), "signature_link", "over the digest"},
		"another time stamp": {again(func(t *testing.T, f *fixture) {
			f.in.Signature.Stamps[1].Serial = "1"
			f.write(t)
		}), "signature_link", "time stamp 2"},
		"a time stamp less":     {again(func(t *testing.T, f *fixture) { f.in.Signature.Stamps = f.in.Signature.Stamps[:1]; f.write(t) }), "signature_link", "2 time stamps, the evidence names 1"},
		"another status":        {again(func(t *testing.T, f *fixture) { f.in.Signature.Revocation[0].SHA256 = SHA256(nil); f.write(t) }), "signature_link", "does not hold the ocsp"},
		"another chain":         {again(func(t *testing.T, f *fixture) { f.in.Signature.Chain[1].SHA256 = SHA256(nil); f.write(t) }), "signature_link", "the certificate of"},
		"another root":          {again(func(t *testing.T, f *fixture) { f.in.Signature.RootSHA256 = SHA256(nil); f.write(t) }), "material", "issuer of the certificate"},
		"without its issuer":    {again(func(t *testing.T, f *fixture) { f.pack.Certificates = f.pack.Certificates[:1] }), "material", ""},
		"another's certificate": {again(func(t *testing.T, f *fixture) { f.live.Certificate.Serial = "1"; f.finish(t) }), "material", "tells the state of certificate 1"},
		"a line left out":       {again(func(t *testing.T, f *fixture) { f.pack.Lines = f.pack.Lines[:2] }), "lines", "line 5 (prescription_pdf_downloaded) is missing"},
		"a line that nobody names": {again(func(t *testing.T, f *fixture) {
			f.live.Lines = f.live.Lines[:2]
			f.pack.Summary = must[[]byte](t)(Summary(f.pack.Core, f.live))
		}), "lines", "nothing names line 5"},
		"lines out of order": {again(func(t *testing.T, f *fixture) { l := f.pack.Lines; l[0], l[1] = l[1], l[0] }), "chain", "comes after line"},
		"a line in another place": {again(func(t *testing.T, f *fixture) {
			f.live.Lines[2].Seq = 6
			f.pack.Lines[2].Seq = 6
			f.pack.Summary = must[[]byte](t)(Summary(f.pack.Core, f.live))
		}), "inclusion", "does not show that leaf 6"},
		"another proof": {again(func(t *testing.T, f *fixture) { f.pack.Lines[1].Proof = f.pack.Lines[2].Proof }), "inclusion", "does not show"},
		"another tree": {again(func(t *testing.T, f *fixture) {
			f.live.Checkpoint.Root = SHA256(nil)
			f.pack.Summary = must[[]byte](t)(Summary(f.pack.Core, f.live))
		}), "checkpoint", "names another tree"},
		"cancelled by hand": {again(func(t *testing.T, f *fixture) {
			f.live.Status, f.live.Cancelled = StatusCancelled, &Cancellation{At: judged, Actor: "x", Reason: NewReason([32]byte{2}, "y")}
			f.finish(t)
		}), "status", "the lines say otherwise"},
		"a cancellation left out": {again(func(t *testing.T, f *fixture) {
			f.live.Lines = append(f.live.Lines, f.append(t, EventCancelled, map[string]any{"prescription_id": "RX-134"}))
			f.finish(t)
		}), "status", "the lines say otherwise"},
		"signed twice": {again(func(t *testing.T, f *fixture) {
			f.live.Lines = append(f.live.Lines, f.append(t, EventSigned, map[string]any{"prescription_id": "RX-134"}))
			f.finish(t)
		}), "events", "two prescription_signed lines"},
		"never created": {again(func(t *testing.T, f *fixture) {
			f.in.Lines = f.in.Lines[:0]
			f.live.Lines = f.live.Lines[1:]
			f.finish(t)
		}), "events", "no prescription_signed line after"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			r := verify(t, c.make(t, f), f.trusting())
			if r.Verdict != Invalid || r.ExitCode != 1 {
				t.Fatalf("not invalid\n%s", r.Text())
			}
			found := false
			for _, one := range r.Checks {
				found = found || one.Name == c.check && one.Result == Fail && strings.Contains(one.Text, c.text)
			}
			if !found {
				t.Errorf("check %s does not fail with %q\n%s", c.check, c.text, r.Text())
			}
		})
	}
}

// A pack that would not verify is not written.
func TestWritePackRefuses(t *testing.T) {
	f := newFixture(t)
	f.pack.Lines = f.pack.Lines[1:]
	var b bytes.Buffer
	if err := WritePack(context.Background(), &b, f.pack); err == nil || b.Len() > 0 {
		t.Errorf("%v, and %d bytes were written", err, b.Len())
	}
}

// Links of neighbouring lines are checked also when each line is whole by itself.
func TestNeighbours(t *testing.T) {
	f := newFixture(t)
	other := newFixture(t)
	other.log = nil
	other.append(t, "appliance_founded", map[string]any{"other": true})
	p := must[logPart](t)(parseLog([]PackLine{{Seq: 0, Line: other.log[0]}, {Seq: 1, Line: f.log[1]}}))
	if err := p.check(); err == nil || !strings.Contains(err.Error(), "does not follow line 0") {
		t.Error(err)
	}
	p = must[logPart](t)(parseLog([]PackLine{{Seq: 0, Line: f.log[1]}, {Seq: 5, Line: f.log[0]}}))
	if err := p.check(); err == nil || !strings.Contains(err.Error(), "is older") {
		t.Error(err)
	}
}

// FuzzArchive holds the law of the archive: what is accepted is written so and not otherwise; and other zip readers see the same in it.
func FuzzArchive(f *testing.F) {
	f.Add(sample(f))
	f.Add(must[[]byte](f)(encodeArchive([]entry{{"a", nil}})))
	f.Add(lenient([]entry{{"../a", nil}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeArchive(data)
		if err != nil {
			return
		}
		if again := must[[]byte](t)(encodeArchive(entries)); !bytes.Equal(again, data) {
			t.Error("the archive is not the one for its entries")
		}
		z := must[*zip.Reader](t)(zip.NewReader(bytes.NewReader(data), int64(len(data))))
		if len(z.File) != len(entries) {
			t.Fatalf("archive/zip sees %d files, not %d", len(z.File), len(entries))
		}
		for i, file := range z.File {
			if file.Name != entries[i].name || file.CRC32 != crc32.ChecksumIEEE(entries[i].data) {
				t.Errorf("archive/zip sees another file %d", i)
			}
		}
	})
}

// FuzzVerifyPack holds that verification ends and that nothing but the one pack is valid. The archive's own checks are taken out of the way: the
// files vary, not the bytes of the archive.
func FuzzVerifyPack(f *testing.F) {
	good := newFixture(f)
	entries := must[[]entry](f)(good.pack.files())
	for i, e := range entries {
		if e.name != namePDF {
			f.Add(uint8(i), e.data)
		}
	}
	f.Fuzz(func(t *testing.T, at uint8, data []byte) {
		changed := append([]entry(nil), entries...)
		changed[int(at)%len(entries)].data = data
		files := append([]entry{changed[0]}, changed[2:]...)
		if int(at)%len(entries) != 1 {
			changed[1].data = must[[]byte](t)(canonical(newManifest(readmeVersion, good.pack.CreatedAt, "RX-134", files)))
		}
		archive, err := encodeArchive(changed)
		if err != nil {
			return
		}
		r := verify(t, archive, VerifyOptions{LogKeys: []string{good.pack.LogKey}})
		same := bytes.Equal(data, entries[int(at)%len(entries)].data)
		if !same && r.Verdict != Invalid && entries[int(at)%len(entries)].name != nameCheckpoint {
			t.Errorf("a pack with another %s passed\n%s", entries[int(at)%len(entries)].name, r.Text())
		}
	})
}
