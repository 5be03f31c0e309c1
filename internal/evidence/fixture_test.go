package evidence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// judged is when other validators judged the signed PDF of the fixture.
var judged = time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)

const (
	vector = "../pades/testdata/vectors/lta-two-tier"
	origin = "aes.example/audit"
)

// fixture is all that a pack is made of, over a PDF that another implementation signed and a log made here.
type fixture struct {
	in    Input
	live  Live
	pack  Pack
	roots []*x509.Certificate
	key   ed25519.PrivateKey
	log   [][]byte // every line

	realmKey map[string]any // details of the line about the realm's key, which the core names when they have its thumbprint
	seen     []Position     // that line, then

	cosigners []*chain.Cosigner
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newFixture returns a good pack's parts.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	f.cosigners = []*chain.Cosigner{must[*chain.Cosigner](t)(chain.NewCosigner("backup.example/mirror", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))))}
	f.pack.PDF = must[[]byte](t)(os.ReadFile(vector + ".pdf"))
	block, _ := pem.Decode(must[[]byte](t)(os.ReadFile(vector + ".root.pem")))
	root := must[*x509.Certificate](t)(x509.ParseCertificate(block.Bytes))
	f.roots = []*x509.Certificate{root}
	f.input(t, root)
	f.realmKey = map[string]any{"issuer": f.in.Token.Issuer, "kid": "k1"}
	f.write(t)
	return f
}

// input fills in what the signer would know after signing.
func (f *fixture) input(t testing.TB, root *x509.Certificate) {
	t.Helper()
	doc := must[*pdf.File](t)(pdf.Open(f.pack.PDF, pdf.Limits{}))
	dss := must[pdf.DSS](t)(pdf.ReadDSS(doc))
	f.pack.CRLs = dss.CRLs // of the root, which issued the signer's certificate; of the day of the test
	for _, der := range dss.Certs {
		f.pack.Certificates = append(f.pack.Certificates, must[*x509.Certificate](t)(x509.ParseCertificate(der)))
	}
	f.in = Input{
		Salt: [32]byte{1},
		Prescription: Prescription{ID: "RX-134", Clinic: "wharf-lane", PatientName: "Zoë Anne Example", MedicationName: "Amoxicillin",
			ContentSHA256: SHA256([]byte("content"))},
		Document: Document{SHA256: SHA256(f.pack.PDF), Size: int64(len(f.pack.PDF)), Source: "rendered"},
		Token: Token{Issuer: "https://id.example/realms/wharf-lane", Sub: "8d1f", Username: "dr", Name: "Doctor Clinician", ACR: "2",
			AuthTime: judged.Add(-time.Minute), IssuedAt: judged.Add(-time.Minute), Expires: judged.Add(4 * time.Minute), JTI: "j", SID: "s",
			AuthorizedParty: "booking", Roles: []string{"clinician"}, SHA256: SHA256([]byte("token")), Algorithm: "RS256", Kid: "k1", KeyThumbprint: SHA256([]byte("key"))},
		Request:    Request{PeerIP: "192.0.2.7", RequestID: "req-1", ReceivedAt: judged, BrowserIP: "198.51.100.4", UserAgent: "Firefox <1> & more"},
		Consent:    Consent{Text: "I have checked this prescription.", Timestamp: "2026-11-21T19:59:00+00:00"},
		Signature:  Signature{Algorithm: "ECDSA P-256 with SHA-256", Issuer: "CA", BoundSub: "8d1f", RootSHA256: SHA256(root.Raw)},
		Clock:      Clock{Proven: true, MaxError: 20 * time.Millisecond},
		Activation: Activation{LevelToken, KindClinician},
	}
	s := &f.in.Signature
	for _, der := range dss.OCSPs {
		s.Revocation = append(s.Revocation, Revocation{"ocsp", SHA256(der)})
	}
	for _, der := range dss.CRLs {
		s.Revocation = append(s.Revocation, Revocation{"crl", SHA256(der)})
	}
	for _, one := range must[[]pdf.Signature](t)(doc.Signatures()) {
		signed := must[*cms.SignedData](t)(openSignature(&one))
		if one.Type == "DocTimeStamp" {
			s.Stamps = append(s.Stamps, must[Stamp](t)(stampOf(signed)))
			continue
		}
		br := one.ByteRange
		s.ID = SHA256(signed.Signers[0].Signature)
		s.Digest = SHA256(append(bytes.Clone(f.pack.PDF[:br[1]]), f.pack.PDF[br[2]:br[2]+br[3]]...))
		crt := must[*x509.Certificate](t)(signed.SignerCertificate(0))
		s.CertificateSerial, s.CertificateSHA256 = "00"+crt.SerialNumber.Text(16), SHA256(crt.Raw)
		s.Chain = []Certificate{{crt.Subject.CommonName, crt.SerialNumber.Text(16), SHA256(crt.Raw)}, {root.Subject.CommonName, root.SerialNumber.Text(16), SHA256(root.Raw)}}
		s.CommonName, s.RegistrationNumber = crt.Subject.CommonName, crt.Subject.SerialNumber
		f.in.Prescription.ClinicianName = crt.Subject.CommonName
		token := must[*cms.SignedData](t)(cms.Parse(must[[][]byte](t)(signed.TimeStamps(0))[0]))
		s.Stamps = append(s.Stamps, must[Stamp](t)(stampOf(token)))
	}
	f.in.Prescription.SignedAt = s.Stamps[0].Time
}

// append adds a line to the log.
func (f *fixture) append(t testing.TB, eventType string, details any) Position {
	t.Helper()
	var prev chain.Hash
	if n := len(f.log); n > 0 {
		prev = must[chain.Line](t)(chain.ParseLine(f.log[n-1])).Hash
	}
	raw := must[[]byte](t)(chain.Canonical(nil, must[[]byte](t)(json.Marshal(details))))
	at := judged.Add(time.Duration(len(f.log)) * time.Second)
	line, hash, err := chain.AppendLine(nil, prev, chain.Entry{Time: at, EventType: eventType, Actor: "clinician:8d1f", Details: raw})
	if err != nil {
		t.Fatal(err)
	}
	f.log = append(f.log, line)
	return Position{uint64(len(f.log) - 1), eventType, at, hex.EncodeToString(hash[:])}
}

// write makes the log, the core, the summary and the rest.
func (f *fixture) write(t testing.TB) {
	t.Helper()
	f.log = nil
	f.append(t, "appliance_founded", map[string]any{"demo": true})
	key := f.append(t, EventKeyFirstSeen, f.realmKey)
	if f.realmKey["thumbprint"] != nil {
		f.in.Token.KeyFirstSeen, f.seen = &key, []Position{key}
	}
	s := f.in.Signature
	created := f.append(t, EventCreated, map[string]any{"signature": s.ID, "certificate_serial": s.CertificateSerial, "document_digest": s.Digest})
	f.append(t, EventCreated, map[string]any{"signature": "another operation"})
	f.in.Lines = []Position{created}
	f.pack.Core = must[[]byte](t)(Core(f.in))
	signed := f.append(t, EventSigned, SignedDetails{f.in.Prescription.ID, f.in.Document.SHA256, SHA256(f.pack.Core), s.ID, f.in.Token.Sub, f.in.Token.ACR, "192.0.2.7"})
	downloaded := f.append(t, "prescription_pdf_downloaded", map[string]any{"prescription_id": "RX-134"})
	f.append(t, "another", map[string]any{})
	f.live = Live{
		GeneratedAt: judged.Add(time.Minute), GeneratedBy: "aes-appliance test", Status: StatusSigned, Exists: true,
		Lines: []Position{created, signed, downloaded},
	}
	for _, crt := range f.pack.Certificates {
		if SHA256(crt.Raw) == s.CertificateSHA256 {
			f.live.Certificate = StateOn(crt, must[*x509.RevocationList](t)(x509.ParseRevocationList(f.pack.CRLs[0])), f.live.GeneratedAt)
		}
	}
	f.finish(t)
}

// finish makes checkpoint, summary and proofs for the log, core and live as they are.
func (f *fixture) finish(t testing.TB) {
	t.Helper()
	var tree chain.Frontier
	var leaves []chain.Hash
	for _, line := range f.log {
		leaves = append(leaves, chain.LeafHash(line))
		tree.Append(leaves[len(leaves)-1])
	}
	now := tree.Tree()
	signed := f.cosign(t, chain.Checkpoint{Origin: origin, Tree: now})
	f.pack.Checkpoint, f.live.Checkpoint = signed.Note, NewCheckpoint(signed)
	f.pack.LogKey = must[string](t)(chain.VerifierKey(origin, f.key.Public().(ed25519.PublicKey)))
	f.pack.Lines = nil
	for _, p := range slices.Concat(f.seen, f.live.Lines) {
		path := must[[]chain.Hash](t)(chain.ProveInclusion(p.Seq, now.Size, func(level int, n uint64) (chain.Hash, error) {
			var sub chain.Frontier
			for _, l := range leaves[n<<level : (n+1)<<level] {
				sub.Append(l)
			}
			return sub.Tree().Root, nil
		}))
		f.pack.Lines = append(f.pack.Lines, PackLine{p.Seq, f.log[p.Seq], path})
	}
	f.pack.Summary = must[[]byte](t)(Summary(f.pack.Core, f.live))
	f.pack.CreatedAt = f.live.GeneratedAt
}

// cosign returns the signed checkpoint, cosigned by f.cosigners.
func (f *fixture) cosign(t testing.TB, c chain.Checkpoint) chain.Cosigned {
	t.Helper()
	out := chain.Cosigned{Checkpoint: c, Note: must[[]byte](t)(c.Sign(f.key))}
	for _, who := range f.cosigners {
		line := must[[]byte](t)(who.Cosign(c, judged.Add(time.Minute)))
		var by []chain.Cosignature
		var err error
		if out.Note, by, err = chain.AddCosignatures(out.Note, line, who.Key()); err != nil {
			t.Fatal(err)
		}
		out.By = append(out.By, by...)
	}
	return out
}

// trusting verifies with the fixture's root and log key.
func (f *fixture) trusting() VerifyOptions {
	return VerifyOptions{LogKeys: []string{f.pack.LogKey}, JudgePDF: func(ctx context.Context, data []byte, crls [][]byte) (PDFJudgement, error) {
		r, err := pades.Validate(ctx, data, pades.ValidateOptions{Roots: f.roots, At: judged, Material: pades.Material{CRLs: crls}})
		if err != nil {
			return PDFJudgement{Fail, err.Error(), nil}, nil
		}
		return PDFJudgement{map[int]Result{0: Pass, 1: Fail, 2: Unknown}[r.ExitCode], r.Summary, r}, nil
	}}
}

// archive returns the pack's bytes whether they would verify or not.
func (f *fixture) archive(t testing.TB) []byte {
	t.Helper()
	return must[[]byte](t)(encodeArchive(must[[]entry](t)(f.pack.files())))
}

func verify(t testing.TB, data []byte, o VerifyOptions) *PackReport {
	t.Helper()
	return must[*PackReport](t)(VerifyPack(context.Background(), bytes.NewReader(data), int64(len(data)), o))
}

// failed returns the text of the check of that name, if it failed.
func failed(r *PackReport, name string) string {
	for _, c := range r.Checks {
		if c.Name == name && c.Result == Fail {
			return c.Text
		}
	}
	return ""
}
