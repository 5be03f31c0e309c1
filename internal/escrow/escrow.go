// Package escrow is the form in which the token's backup leaves the machine: its files and its PIN, in one file that only the holders of age
// identities (filippo.io/age, X25519) can open. Whoever opens one has the appliance's keys.
package escrow

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
)

// Backup is what one holds.
type Backup struct {
	Origin string    // of the log that the token belongs to
	Made   time.Time // UTC, whole seconds
	Lines  uint64    // of the log when it was made
	Label  string    // of the token
	PIN    []byte
	Files  []File // of the token's folder
}

// File is one file of the token's folder.
type File struct {
	Name string // with slashes
	Data []byte
}

// Bounds of what Open takes.
const (
	maxFiles    = 100_000
	maxFile     = 1 << 20
	maxManifest = 32 << 20
	maxPIN      = 256
)

// The plain text is a tar of these entries in this order, "files/" and a name for each of the manifest's files, and no other.
const (
	nameManifest = "manifest.json"
	namePIN      = "pin"
	dirFiles     = "files/"
	format       = "aes-appliance token backup 1"
)

type manifest struct {
	Format string         `json:"format"`
	Origin string         `json:"origin"`
	Made   time.Time      `json:"made"`
	Lines  uint64         `json:"log_lines"`
	Label  string         `json:"token_label"`
	Files  []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"`
}

// ErrFormat is the error of a plain text that Seal never wrote.
var ErrFormat = errors.New("escrow: this is no backup of a token")

// Seal writes b to w, for each of the recipients ("age1…") to open.
//
//	Open(Seal(b, r), the identity of r) == b
func Seal(w io.Writer, recipients []string, b Backup) error {
	if len(recipients) == 0 {
		return errors.New("escrow: a backup for nobody")
	}
	to := make([]age.Recipient, len(recipients))
	for i, text := range recipients {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return fmt.Errorf("escrow: recipient %.80q: %w", text, err)
		}
		to[i] = r
	}
	if err := b.check(); err != nil {
		return err
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("escrow: %w", err)
	}
	if err := b.write(sealed); err != nil {
		return err
	}
	return sealed.Close()
}

func (b *Backup) check() error {
	if len(b.PIN) == 0 || len(b.PIN) > maxPIN || len(b.Files) == 0 || len(b.Files) > maxFiles {
		return fmt.Errorf("escrow: a backup of %d files with a PIN of %d bytes", len(b.Files), len(b.PIN))
	}
	seen := map[string]bool{}
	for _, f := range b.Files {
		if f.Name == "" || seen[f.Name] || len(f.Data) > maxFile {
			return fmt.Errorf("escrow: file %.120q of %d bytes cannot be in a backup", f.Name, len(f.Data))
		}
		seen[f.Name] = true
	}
	return nil
}

func (b *Backup) write(w io.Writer) error {
	m := manifest{Format: format, Origin: b.Origin, Made: b.Made.UTC().Truncate(time.Second), Lines: b.Lines, Label: b.Label}
	for _, f := range b.Files {
		m.Files = append(m.Files, manifestFile{f.Name, sum(f.Data), len(f.Data)})
	}
	head, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	put := func(name string, data []byte) error {
		h := tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: m.Made, Format: tar.FormatPAX}
		if err := t.WriteHeader(&h); err != nil {
			return fmt.Errorf("escrow: %w", err)
		}
		_, err := t.Write(data)
		return err
	}
	if err := errors.Join(put(nameManifest, head), put(namePIN, b.PIN)); err != nil {
		return err
	}
	for _, f := range b.Files {
		if err := put(dirFiles+f.Name, f.Data); err != nil {
			return err
		}
	}
	return t.Close()
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// ErrIdentity says that none of the identities opens the backup.
var ErrIdentity = errors.New("escrow: none of the identities opens this backup")

// CheckIdentities says what keeps a file from being one of age-keygen's, nil when it holds identities.
func CheckIdentities(r io.Reader) error {
	_, err := age.ParseIdentities(r)
	return err
}

// Open reads a backup with the identities in a file of age-keygen's ("AGE-SECRET-KEY-1…", a line each). ErrIdentity: it is for others. ErrFormat: it is
// something else, or damaged. File names are as they were given; whoever writes files by them checks them.
func Open(r io.Reader, identities io.Reader) (Backup, error) {
	ids, err := age.ParseIdentities(identities)
	if err != nil {
		return Backup{}, fmt.Errorf("escrow: the identities: %w", err)
	}
	plain, err := age.Decrypt(r, ids...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return Backup{}, ErrIdentity
	}
	if err != nil {
		return Backup{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	b, err := parse(plain)
	if err != nil {
		return Backup{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return b, nil
}

// formatOf returns what a manifest of any version says of its format, "" when it says nothing.
func formatOf(head []byte) string {
	var m struct {
		Format string `json:"format"`
	}
	if json.Unmarshal(head, &m) != nil {
		return ""
	}
	return m.Format
}

// parse reads the plain text.
func parse(r io.Reader) (b Backup, err error) {
	t := tar.NewReader(r)
	head, err := entry(t, nameManifest, maxManifest)
	if err != nil {
		return b, err
	}
	if other := formatOf(head); other != format && strings.HasPrefix(other, strings.TrimRight(format, "0123456789")) {
		return b, fmt.Errorf("it was made by another version of this program (%.60q): restore with that version, or a later one", other)
	}
	var m manifest
	dec := json.NewDecoder(bytes.NewReader(head))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return b, fmt.Errorf("the manifest: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF || m.Format != format {
		return b, fmt.Errorf("the manifest is of the format %.60q", m.Format)
	}
	b = Backup{Origin: m.Origin, Made: m.Made, Lines: m.Lines, Label: m.Label}
	if b.PIN, err = entry(t, namePIN, maxPIN); err != nil {
		return b, err
	}
	if len(m.Files) > maxFiles {
		return b, fmt.Errorf("%d files", len(m.Files))
	}
	for _, want := range m.Files {
		data, err := entry(t, dirFiles+want.Name, maxFile)
		if err != nil {
			return b, err
		}
		if len(data) != want.Size || sum(data) != want.SHA256 {
			return b, fmt.Errorf("%.120q is not what the manifest says", want.Name)
		}
		b.Files = append(b.Files, File{want.Name, data})
	}
	if _, err := t.Next(); err != io.EOF {
		return b, errors.Join(errors.New("there is more than the manifest says"), err)
	}
	// To the end: the last part of the cipher text is authenticated too.
	if n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20)); err != nil {
		return b, err
	} else if n == 1<<20 {
		return b, errors.New("there is more behind the archive")
	}
	return b, b.check()
}

// entry reads the next entry, which must have this name and no more than max bytes.
func entry(t *tar.Reader, name string, max int64) ([]byte, error) {
	h, err := t.Next()
	if err != nil {
		return nil, fmt.Errorf("%.120q is missing: %w", name, err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg || h.Size > max {
		return nil, fmt.Errorf("%.120q of %d bytes stands where %.120q belongs", h.Name, h.Size, name)
	}
	return io.ReadAll(io.LimitReader(t, max))
}
