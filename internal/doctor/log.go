package doctor

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/wire"
)

const (
	smallLog    = 32 << 20 // bytes: read whole each time
	readAge     = 36 * time.Hour
	witnessAge  = time.Hour
	cureLog     = "/usr/share/doc/aes-appliance/operations.md, \"The log does not verify\": stop the signer, keep a copy, appliance audit verify names the line"
	cureReading = "appliance doctor --full reads it now"
)

func (e *exam) log(ctx context.Context, s *sheet) {
	st, err := e.signer.status(ctx)
	up := err == nil
	e.recent(s, e.Appliance.StateDir, "", up, st.Head)
	e.whole(ctx, s, e.Appliance.StateDir, "", up, st)
	if e.Appliance.Log.WitnessPolicy != "" {
		e.witnesses(ctx, s)
	}
}

// recent verifies the end of a log. of says whose it is, in a sentence; head, when the signer runs, is what it said its last line was: it must be there.
func (e *exam) recent(s *sheet, dir, of string, up bool, head string) {
	t, err := openTail(e.m.path(filepath.Join(dir, ledger.FileName)))
	if err != nil {
		s.bad("log.recent", cureLog, "the log%s cannot be opened: %v", of, err)
		return
	}
	defer t.Close()
	lines, heads, torn, err := t.recent()
	raw, _ := hex.DecodeString(head)
	switch {
	case err != nil:
		s.bad("log.recent", cureLog, "the end of the log%s does not verify: %v", of, err)
	case lines == 0:
		s.bad("log.recent", cureLog, "the log%s has no line", of)
	case torn && !up:
		s.warn("log.recent", "start the service: what a crash left is set aside, and a line says so", "the log%s ends within a line; the %d before it verify", of, lines)
	case len(raw) == chain.HashSize && !heads[chain.Hash(raw)]:
		s.bad("log.recent", cureLog, "the running signer's last line is not in the file: another log lies in its place")
	default:
		s.ok("log.recent", "the last %d lines of the log%s verify", lines, of)
	}
}

// whole has the whole log read here when that was asked for or takes no time; else by what the signer says of its own readings.
func (e *exam) whole(ctx context.Context, s *sheet, dir, of string, up bool, st wire.Status) {
	t, err := openTail(e.m.path(filepath.Join(dir, ledger.FileName)))
	if err != nil {
		return // recent said it
	}
	defer t.Close()
	if e.Full || t.size <= smallLog {
		e.read(ctx, s, t, of, up)
		return
	}
	v := st.Verified
	switch {
	case !up:
		s.unknown("log.whole", cureReading, "the log%s was not read whole: the signer, which does so daily, does not answer", of)
	case v.Damage != "":
		s.bad("log.whole", cureLog, "the signer found its log damaged: %s", v.Damage)
	case v.At.IsZero():
		s.unknown("log.whole", "wait some minutes, or: "+cureReading, "the signer has not read its whole log since it started")
	case e.Now().Sub(v.At) > readAge:
		s.warn("log.whole", cureReading+"; "+cureSigner, "the signer last read its whole log at %s", v.At.Format(time.RFC3339))
	default:
		s.ok("log.whole", "the signer read all %d lines of its log at %s, and found them good", v.Lines, v.At.Format(time.RFC3339)).with("at", v.At).with("lines", v.Lines)
	}
}

// read verifies every line of a log as it was when it was opened, and, when the signer has a checkpoint of others', that it begins as they cosigned.
func (e *exam) read(ctx context.Context, s *sheet, t *tail, of string, up bool) {
	var known []chain.Tree
	if cp := (wire.Checkpoint{}); up {
		if _, err := e.signer.client.Call(ctx, wire.OpCheckpoint, wire.Nothing{}, &cp, nil); err == nil {
			if root, err := hex.DecodeString(cp.Root); err == nil && len(root) == chain.HashSize {
				known = append(known, chain.Tree{Size: cp.Size, Root: chain.Hash(root)})
			}
		}
	}
	// Appended to meanwhile, the file may end within a line: it is read as far as it was whole. After the checkpoint was asked for, so that it covers it.
	if now, err := openTail(t.f.Name()); err == nil {
		t.size = now.size
		now.Close()
	}
	_, size := t.whole()
	rep, err := ledger.Verify(&interrupted{ctx, io.NewSectionReader(t.f, 0, size)}, known...)
	if err != nil {
		s.bad("log.whole", cureLog, "the log%s does not verify: %s", of, textOf(err))
		return
	}
	text := fmt.Sprintf("all %d lines of the log%s verify", rep.Size, of)
	if len(known) > 0 {
		text += fmt.Sprintf(", and its first %d are what the newest checkpoint says", known[0].Size)
	}
	s.ok("log.whole", "%s", text).with("lines", rep.Size).with("root", hex.EncodeToString(rep.Root[:]))
}

// whole returns where the last whole line ends.
func (t *tail) whole() (last []byte, size int64) {
	from := max(0, t.size-2*(chain.MaxLine+1))
	buf := make([]byte, t.size-from)
	n, _ := t.f.ReadAt(buf, from) // what could not be read is found by who reads it all
	for i := n - 1; i >= 0; i-- {
		if buf[i] == '\n' {
			return nil, from + int64(i) + 1
		}
	}
	return nil, t.size
}

// interrupted is a reader that ends with a context.
type interrupted struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (i *interrupted) Read(b []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(b)
}

// witnesses says how those stand that are asked to cosign the log.
func (e *exam) witnesses(ctx context.Context, s *sheet) {
	var cp wire.Checkpoint
	if _, err := e.signer.client.Call(ctx, wire.OpCheckpoint, wire.Nothing{}, &cp, nil); err != nil {
		s.unasked("log.witnesses", err)
		return
	}
	late := 0
	for _, w := range cp.Witnesses {
		if w.Failed != "" || e.Now().Sub(w.Time) > witnessAge {
			late++
			s.warn("log.witnesses", "tell who runs it; if it says that it saw another history: /usr/share/doc/aes-appliance/operations.md, \"A witness contradicts the log\"",
				"witness %s: %s", w.Name, orElse(w.Failed, "nothing for an hour"))
		}
	}
	if late == 0 {
		s.ok("log.witnesses", "all %d witnesses have cosigned within the hour", len(cp.Witnesses))
	}
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
