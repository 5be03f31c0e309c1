package evidence

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// packFormat is the version of the pack: which entries it has, in which order, in which form. The README's text is part of it.
const packFormat = "aes-evidence-pack/1"

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
	nameProofs       = "proofs.json"
	nameCheckpoint   = "checkpoint.txt"
	nameLogKey       = "log-key.txt"
)

// listed are the entries that the manifest lists, with what they are; all of them, in this order, and no other. The manifest itself is the
// second entry of the archive, after the README.
var listed = [...]struct{ name, what string }{
	{nameReadme, "what this is, for people"},
	{namePDF, "the signed prescription"},
	{nameCore, "the evidence as fixed at signing; its SHA-256 is in the log"},
	{nameSummary, "the Evidence Summary: the core, and what was true when this pack was made"},
	{nameCertificates, "certificates of the signer, the time stamps and their issuers"},
	{nameCRLs, "lists of revoked certificates, as of when this pack was made"},
	{nameLines, "the lines of the audit log that concern this prescription"},
	{nameProofs, "proofs that those lines are in the log that the checkpoint names"},
	{nameCheckpoint, "the log's size and tree hash, signed by the log's key"},
	{nameLogKey, "the log's key: compare it with one from elsewhere"},
}

// manifest is the JSON form of manifest.json.
type manifest struct {
	Format         string         `json:"format"`
	CreatedAt      time.Time      `json:"created_at"`
	PrescriptionID string         `json:"prescription_id"`
	Files          []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	What   string `json:"description"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// newManifest returns the manifest over files, which are in the order of listed.
func newManifest(created time.Time, id string, files []entry) manifest {
	m := manifest{Format: packFormat, CreatedAt: created.UTC(), PrescriptionID: id, Files: make([]manifestFile, len(files))}
	for i, f := range files {
		m.Files[i] = manifestFile{f.name, listed[i].what, int64(len(f.data)), SHA256(f.data)}
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
	if len(entries) != len(listed)+1 {
		return m, nil, fmt.Errorf("the pack has %d entries, not the %d of its format", len(entries), len(listed)+1)
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
	again, err := canonical(newManifest(m.CreatedAt, m.PrescriptionID, files))
	if err != nil {
		return m, nil, err
	}
	if !bytes.Equal(again, raw) {
		return m, nil, errors.New("the manifest does not list exactly what the pack holds")
	}
	return m, files, nil
}

// proofs is the JSON form of proofs.json.
type proofs struct {
	Lines []lineProof `json:"lines"`
}

type lineProof struct {
	Seq  uint64   `json:"seq"`
	Path []string `json:"path"` // RFC 6962 §2.1.1, hexadecimal
}

// encodeLines returns chain.jsonl and proofs.json.
func encodeLines(lines []PackLine) (jsonl, proof []byte, err error) {
	p := proofs{Lines: make([]lineProof, len(lines))}
	for i, l := range lines {
		jsonl = append(append(jsonl, l.Line...), '\n')
		p.Lines[i] = lineProof{l.Seq, make([]string, len(l.Proof))}
		for j, h := range l.Proof {
			p.Lines[i].Path[j] = hex.EncodeToString(h[:])
		}
	}
	proof, err = canonical(p)
	return jsonl, proof, err
}

// decodeLines is the inverse of encodeLines: it accepts exactly what that returns.
func decodeLines(jsonl, proof []byte) ([]PackLine, error) {
	var p proofs
	if err := strict(proof, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", nameProofs, err)
	}
	raw := bytes.Split(bytes.TrimSuffix(jsonl, []byte{'\n'}), []byte{'\n'})
	if len(raw) != len(p.Lines) {
		return nil, fmt.Errorf("%d lines and %d proofs", len(raw), len(p.Lines))
	}
	lines := make([]PackLine, len(raw))
	for i, one := range p.Lines {
		lines[i] = PackLine{Seq: one.Seq, Line: raw[i], Proof: make([]chain.Hash, len(one.Path))}
		for j, s := range one.Path {
			if !isHash(s) {
				return nil, fmt.Errorf("%s: %q is no hash", nameProofs, s)
			}
			if _, err := hex.Decode(lines[i].Proof[j][:], []byte(s)); err != nil {
				return nil, fmt.Errorf("%s: %w", nameProofs, err)
			}
		}
	}
	a, b, err := encodeLines(lines)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(a, jsonl) || !bytes.Equal(b, proof) {
		return nil, fmt.Errorf("%s or %s is not written as a pack's is", nameLines, nameProofs)
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
