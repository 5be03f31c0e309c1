package evidence

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// packFormat is the version of the pack: which entries it has, in which order, in which form. The README's wording has a version of its own.
const packFormat = "aes-evidence-pack/3"

// Names of the entries.
const (
	nameReadme       = "README.txt"
	nameManifest     = "manifest.json"
	namePDF          = "document.pdf"
	nameCore         = "core.json"
	nameSummary      = "summary.json"
	nameCertificates = "certificates.pem"
	nameCRLs         = "crls.pem"
	nameLines        = "chain.jsonl"
	nameCheckpoint   = "checkpoint.txt"
	nameLogKey       = "log-key.txt"
	nameStamped      = "stamped-checkpoint.txt"
	nameStamp        = "stamped-checkpoint.tsr"
	nameGrowth       = "stamped-growth.txt"
)

// listed are the entries that the manifest lists, with what they are; all of them, in this order. The manifest itself is the second entry of the
// archive, after the README. A checkpoint with a time stamp may follow, all three parts of it; then there is a proof for each line, and no other entry.
var listed = [...]struct{ name, what string }{
	{nameReadme, "what this is, for people"},
	{namePDF, "the signed prescription"},
	{nameCore, "the evidence as fixed at signing; its SHA-256 is in the log"},
	{nameSummary, "the Evidence Summary: the core, and what was true when this pack was made"},
	{nameCertificates, "certificates of the signer, the time stamps and their issuers"},
	{nameCRLs, "lists of revoked certificates, as of when this pack was made"},
	{nameLines, "the lines of the audit log that concern this prescription"},
	{nameCheckpoint, "the log's size and tree hash, signed by the log's key and by who cosigned it"},
	{nameLogKey, "the log's key: compare it with one from elsewhere"},
}

// stampedParts are the entries of a checkpoint with a time stamp.
var stampedParts = [...]struct{ name, what string }{
	{nameStamped, "an earlier or the same checkpoint, which another authority time-stamped"},
	{nameStamp, "that time stamp (RFC 3161) over the file before"},
	{nameGrowth, "proof that the log of checkpoint.txt has grown from that one"},
}

const (
	proofPrefix = "line-"
	proofSuffix = ".tlog-proof"
)

// proofName is the name of the entry that proves a line.
func proofName(seq uint64) string { return fmt.Sprintf("%s%d%s", proofPrefix, seq, proofSuffix) }

// described returns what an entry is; "" when a pack has none of that name.
func described(name string) string {
	for _, l := range append(listed[:], stampedParts[:]...) {
		if l.name == name {
			return l.what
		}
	}
	if seq, ok := strings.CutPrefix(name, proofPrefix); ok && strings.HasSuffix(seq, proofSuffix) {
		return "proof that line " + strings.TrimSuffix(seq, proofSuffix) + " of the log is there (C2SP tlog-proof)"
	}
	return ""
}

// manifest is the JSON form of manifest.json.
type manifest struct {
	Format         string         `json:"format"`
	CreatedAt      time.Time      `json:"created_at"`
	PrescriptionID string         `json:"prescription_id"`
	Readme         int            `json:"readme"` // version of README.txt's wording
	Files          []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	What   string `json:"description"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// newManifest returns the manifest over files, which are in the order that a pack has them.
func newManifest(readme int, created time.Time, id string, files []entry) manifest {
	m := manifest{Format: packFormat, CreatedAt: created.UTC(), PrescriptionID: id, Readme: readme, Files: make([]manifestFile, len(files))}
	for i, f := range files {
		m.Files[i] = manifestFile{f.name, described(f.name), int64(len(f.data)), SHA256(f.data)}
	}
	return m
}

// openManifest splits the entries of an archive into the manifest and what it lists.
func openManifest(entries []entry) (m manifest, files []entry, err error) {
	if len(entries) > 1 && entries[1].name != nameManifest {
		return m, nil, fmt.Errorf("the pack has no %s where it is due", nameManifest)
	}
	for i, want := range listed {
		at := i
		if i > 0 {
			at++ // the manifest comes second
		}
		if at >= len(entries) || entries[at].name != want.name {
			return m, nil, fmt.Errorf("the pack has no %s where it is due", want.name)
		}
		files = append(files, entries[at])
	}
	rest := entries[len(listed)+1:]
	if len(rest) > 0 && rest[0].name == nameStamped {
		for i, want := range stampedParts {
			if i >= len(rest) || rest[i].name != want.name {
				return m, nil, fmt.Errorf("the pack has no %s where it is due", want.name)
			}
		}
		files, rest = append(files, rest[:len(stampedParts)]...), rest[len(stampedParts):]
	}
	for _, e := range rest { // which lines there are, chain.jsonl says: see decodeLines
		if !strings.HasPrefix(e.name, proofPrefix) || !strings.HasSuffix(e.name, proofSuffix) {
			return m, nil, fmt.Errorf("%s is none of the entries that a pack has, or not where it is due", e.name)
		}
		files = append(files, e)
	}
	raw := entries[1].data
	if err := strict(raw, &m); err != nil {
		return m, nil, fmt.Errorf("%s: %w", nameManifest, err)
	}
	if m.Format != packFormat {
		return m, nil, fmt.Errorf("the pack is of format %q; this program knows %q", m.Format, packFormat)
	}
	for i, f := range m.Files {
		if i < len(files) && (f.SHA256 != SHA256(files[i].data) || f.Size != int64(len(files[i].data))) {
			return m, nil, fmt.Errorf("%s is not the file that the manifest names", files[i].name)
		}
	}
	again, err := canonical(newManifest(m.Readme, m.CreatedAt, m.PrescriptionID, files))
	if err != nil {
		return m, nil, err
	}
	if !bytes.Equal(again, raw) {
		return m, nil, errors.New("the manifest does not list exactly what the pack holds")
	}
	return m, files, nil
}

// encodeLines returns chain.jsonl, and the proof of each line under a checkpoint.
func encodeLines(lines []PackLine, checkpoint []byte) (jsonl []byte, proofs []entry) {
	for _, l := range lines {
		jsonl = append(append(jsonl, l.Line...), '\n')
		p := chain.LogProof{Seq: l.Seq, Path: l.Proof, Checkpoint: checkpoint}
		proofs = append(proofs, entry{proofName(l.Seq), p.Marshal()})
	}
	return jsonl, proofs
}

// decodeLines is the inverse of encodeLines: it accepts exactly what that returns.
func decodeLines(jsonl, checkpoint []byte, proofs []entry) ([]PackLine, error) {
	raw := bytes.Split(bytes.TrimSuffix(jsonl, []byte{'\n'}), []byte{'\n'})
	if len(raw) != len(proofs) {
		return nil, fmt.Errorf("%d lines and %d proofs", len(raw), len(proofs))
	}
	lines := make([]PackLine, len(raw))
	for i, e := range proofs {
		p, err := chain.ParseLogProof(e.data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		if e.name != proofName(p.Seq) || p.Extra != nil || !bytes.Equal(p.Checkpoint, checkpoint) {
			return nil, fmt.Errorf("%s is of another line, or has more than a line's place and %s", e.name, nameCheckpoint)
		}
		lines[i] = PackLine{Seq: p.Seq, Line: raw[i], Proof: p.Path}
	}
	if a, _ := encodeLines(lines, checkpoint); !bytes.Equal(a, jsonl) {
		return nil, fmt.Errorf("%s is not written as a pack's is", nameLines)
	}
	return lines, nil
}

// encodePEM returns blocks of one type without headers.
func encodePEM(kind string, blocks [][]byte) []byte {
	var b []byte
	for _, der := range blocks {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return b
}

// decodePEM is the inverse of encodePEM: it accepts exactly what that returns.
func decodePEM(kind string, b []byte) ([][]byte, error) {
	var blocks [][]byte
	for rest := b; len(blocks) <= maxBlocks; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block.Bytes)
	}
	if len(blocks) > maxBlocks {
		return nil, fmt.Errorf("more than %d PEM blocks", maxBlocks)
	}
	if !bytes.Equal(encodePEM(kind, blocks), b) {
		return nil, fmt.Errorf("not PEM blocks of type %s and nothing else", kind)
	}
	return blocks, nil
}

const (
	pemCertificate = "CERTIFICATE"
	pemCRL         = "X509 CRL"
	maxBlocks      = 32
)

func decodeCertificates(b []byte) ([]*x509.Certificate, error) {
	blocks, err := decodePEM(pemCertificate, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", nameCertificates, err)
	}
	var out []*x509.Certificate
	for i, der := range blocks {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d cannot be read: %w", nameCertificates, i+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func decodeCRLs(b []byte) ([]*x509.RevocationList, error) {
	blocks, err := decodePEM(pemCRL, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", nameCRLs, err)
	}
	var out []*x509.RevocationList
	for i, der := range blocks {
		c, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%s: list %d cannot be read: %w", nameCRLs, i+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// logKeyText is log-key.txt.
func logKeyText(key string) []byte { return []byte(key + "\n") }
