package signer_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

func csr(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestPortalCannotSignWithoutTheBoundPersonsToken: who has the portal's socket still needs the token.
func TestPortalCannotSignWithoutTheBoundPersonsToken(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	h.credential(t, "a", "Una Unbound", "")
	h.credential(t, "b", "Bea Other", "sub-b")
	login := h.provider.A.Login(t, h.doctor)
	named := func(cn string) func(*prescription.Prescription, *wire.SignOpen) {
		return func(p *prescription.Prescription, _ *wire.SignOpen) { p.ClinicianCN = cn }
	}
	for _, c := range []struct {
		what  string
		in    wire.SignOpen
		kind  fault.Kind
		code  string
		wants string
	}{
		{"no token", wanted("", "RX-1"), fault.Unauthorized, "token-missing", ""},
		{"no JWT", wanted("nonsense", "RX-1"), fault.Unauthorized, "", ""},
		{"the ID token", wanted(login.ID, "RX-1"), fault.Unauthorized, "", ""},
		{"another person of the clinic", wanted(h.token(t, func(p *oidctest.Person) { p.Sub = "somebody-else" }), "RX-1"), fault.Forbidden, "", ""},
		{"somebody who calls himself so", wanted(h.token(t, func(p *oidctest.Person) { p.Sub, p.Username = "mallory", "mallory" }), "RX-1"), fault.Forbidden, "", ""},
		{"the same sub in another realm", wanted(h.provider.B.Login(t, h.doctor).Access, "RX-1"), fault.NotFound, "certificate-not-found", "Certificate not found for clinician: Doctor Clinician"},
		{"no role", wanted(h.token(t, func(p *oidctest.Person) { p.Roles = []string{"reader"} }), "RX-1"), fault.Forbidden, "role-missing", ""},
		{"an administrator", wanted(h.token(t, func(p *oidctest.Person) { p.Roles = []string{"aes-admin"} }), "RX-1"), fault.Forbidden, "role-missing", ""},
		{"a weak log-in", wanted(h.token(t, func(p *oidctest.Person) { p.ACR = "1" }), "RX-1"), fault.Forbidden, "", ""},
		{"nobody's credential", wanted(login.Access, "RX-1", named("No Body")), fault.NotFound, "certificate-not-found", "Certificate not found for clinician: No Body"},
		{"another clinic's credential", wanted(login.Access, "RX-1", named("Bea Other")), fault.NotFound, "certificate-not-found", ""},
		{"an unbound credential", wanted(login.Access, "RX-1", named("Una Unbound")), fault.Forbidden, "certificate-unbound", ""},
		{"another's number in the register", wanted(login.Access, "RX-1", func(p *prescription.Prescription, _ *wire.SignOpen) {
			p.ProfessionalRegistrationNumber = "7654322"
		}), fault.Forbidden, "registration-mismatch", ""},
		{"another register", wanted(login.Access, "RX-1", func(p *prescription.Prescription, _ *wire.SignOpen) {
			p.PrescriberType, p.ProfessionalRegister, p.ProfessionalRegistrationNumber = prescription.Dentist, prescription.GDC, "123456"
		}), fault.Forbidden, "registration-mismatch", ""},
		{"another clinic's name", wanted(login.Access, "RX-1", func(p *prescription.Prescription, _ *wire.SignOpen) {
			p.ClinicName = "Evil Clinic"
		}), fault.Forbidden, "clinic-mismatch", ""},
		{"a clinic's name that looks alike", wanted(login.Access, "RX-1", func(p *prescription.Prescription, _ *wire.SignOpen) {
			p.ClinicName = "Wharf Lane Clin\u0456c"
		}), fault.Forbidden, "clinic-mismatch", ""},
		{"a controlled drug", wanted(login.Access, "RX-1", func(p *prescription.Prescription, _ *wire.SignOpen) { p.ControlledDrugSchedule = "2" }), fault.Invalid, "", ""},
		{"no consent", wanted(login.Access, "RX-1", func(_ *prescription.Prescription, in *wire.SignOpen) { in.Consent.Text = " " }), fault.Invalid, "consent-missing", ""},
		{"consent that reads otherwise than it is", wanted(login.Access, "RX-1", func(_ *prescription.Prescription, in *wire.SignOpen) {
			in.Consent.Text = "I do \u202eton\u202c agree."
		}), fault.Invalid, "consent-invalid", ""},
		{"consent that is no text", wanted(login.Access, "RX-1", func(_ *prescription.Prescription, in *wire.SignOpen) { in.Consent.Text = "I agree\xff\x00" }), fault.Invalid, "consent-invalid", ""},
		{"consent in the future", wanted(login.Access, "RX-1", func(_ *prescription.Prescription, in *wire.SignOpen) {
			in.Consent.Timestamp = time.Now().Add(time.Hour)
		}), fault.Invalid, "consent-invalid", ""},
		{"a PDF of its own", wanted(login.Access, "RX-1", func(_ *prescription.Prescription, in *wire.SignOpen) {
			in.Source, in.GivenSHA256 = wire.SourceGiven, strings.Repeat("0", 64)
		}), fault.Forbidden, "given-pdf-not-allowed", ""},
	} {
		before := h.lines(t)
		r, err := h.portal.open(t.Context(), c.in)
		if err == nil || fault.KindOf(err) != c.kind || c.code != "" && fault.CodeOf(err) != c.code || c.wants != "" && fault.PublicOf(err) != c.wants {
			t.Errorf("%s: %q, error %v of kind %v and code %q, want %v, %q", c.what, r.Operation, err, fault.KindOf(err), fault.CodeOf(err), c.kind, c.code)
		}
		if got := h.since(t, before); c.what != "no token" && !slices.ContainsFunc(got, func(typ string) bool { return strings.HasSuffix(typ, "_refused") }) {
			t.Errorf("%s: the refusal left %v", c.what, got)
		}
	}
	if n := count(h.since(t, 0), "signature_created"); n != 0 {
		t.Errorf("%d signatures were made", n)
	}
}

// TestPortalCannotBendAnOperation: each step is once, in order, for what was authorised.
func TestPortalCannotBendAnOperation(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	digest := make([]byte, 32)

	r, err := h.portal.open(ctx, wanted(token, "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Stamp(ctx, digest)
	wantKind(t, err, fault.Conflict, "a time stamp before the signature")
	_, err = r.complete(ctx, pades.Signed{PDF: onePage()})
	wantKind(t, err, fault.Conflict, "completing what was not signed")
	_, err = r.Sign(ctx, digest[:31])
	wantKind(t, err, fault.Invalid, "a short digest")
	doc, err := r.document(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Sign(ctx, digest)
	wantCode(t, err, fault.Conflict, "authorisation-used", "a second digest")
	_, err = r.Stamp(ctx, digest)
	wantKind(t, err, fault.Conflict, "a second time stamp")

	r2, err := h.portal.open(ctx, wanted(token, "RX-2"))
	if err != nil {
		t.Fatal(err)
	}
	doc2, err := r2.document(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.complete(ctx, doc2)
	wantKind(t, err, fault.Conflict, "completing with another operation's document")
	changed := doc
	changed.PDF = bytes.Clone(doc.PDF)
	changed.PDF[20] ^= 1
	_, err = r.complete(ctx, changed)
	wantKind(t, err, fault.Conflict, "completing with a changed document")
	longer := doc
	longer.PDF = append(bytes.Clone(doc.PDF), '\n')
	_, err = r.complete(ctx, longer)
	wantKind(t, err, fault.Invalid, "completing with something appended")
	if n := count(h.since(t, 0), "prescription_signed"); n != 0 {
		t.Errorf("%d were completed", n)
	}
	if _, err := r.complete(ctx, doc); err != nil {
		t.Errorf("the document itself: %v", err)
	}
	_, err = r.complete(ctx, doc)
	wantKind(t, err, fault.NotFound, "completing twice")
	for _, id := range []string{"", "0", strings.Repeat("0", 32), r.Operation + "0"} {
		_, err = h.portal.call(ctx, wire.OpSign, wire.SignDigest{Operation: id, Digest: digest}, nil, nil)
		wantKind(t, err, fault.NotFound, "an operation that is none")
	}
}

// forger embeds something else than the signature that it was given.
type forger struct{ remote }

func (f forger) Sign(ctx context.Context, digest []byte) (pades.Signature, error) {
	sig, err := f.remote.Sign(ctx, digest)
	sig.CMS = bytes.Clone(sig.CMS)
	sig.CMS[len(sig.CMS)-1] ^= 1
	return sig, err
}

// TestDocumentHoldsItsSignature: no line says that a prescription was signed whose document does not hold the signature, though all its digests agree.
func TestDocumentHoldsItsSignature(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	r, err := h.portal.open(t.Context(), wanted(h.token(t, nil), "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := pades.Sign(t.Context(), onePage(), forger{r}, pades.SignOptions{Name: r.Name, Time: r.Time})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.complete(t.Context(), doc)
	wantKind(t, err, fault.Conflict, "a document without the signature")
	if n := count(h.since(t, 0), "prescription_signed"); n != 0 {
		t.Errorf("%d were completed", n)
	}
}

func TestCapsHold(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	h.policy(t, "a", func(p *wire.Policy) { p.SignaturesPerToken = 2 })
	token := h.token(t, nil)
	for i, id := range []string{"RX-1", "RX-2", "RX-3"} {
		_, _, err := h.portal.sign(t.Context(), wanted(token, id))
		if i < 2 && err != nil || i == 2 && fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", id, err)
		}
	}
	if done, _, err := h.portal.sign(t.Context(), wanted(token, "RX-1")); err != nil || !done.Repeated {
		t.Errorf("asking again costs nothing: %+v, %v", done, err)
	}
}

// TestSocketsAllowTheirOwnOperationsOnly: the dispatch tables are the permission.
func TestSocketsAllowTheirOwnOperationsOnly(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	for _, op := range []wire.Op{wire.OpClinicAdd, wire.OpClinicList, wire.OpClinicPolicy, wire.OpRealmAdd, wire.OpRealmRemove, wire.OpRealmList,
		wire.OpReload, wire.OpCertRenew, wire.OpCertGet, wire.OpBackupEnrol, wire.OpBackupGiveUp, wire.OpBackupStatus, wire.OpBackupRotate, wire.OpBackupDrill, wire.OpTokenBackup, wire.OpRenewOpen, wire.OpRenewMaterial, wire.OpRenewStamp, wire.OpRenewed, "", "shell"} {
		_, err := h.portal.Call(ctx, op, wire.Nothing{}, nil, nil)
		wantKind(t, err, fault.Forbidden, "the portal asking for "+string(op))
	}
	for _, op := range []wire.Op{wire.OpSignOpen, wire.OpSign, wire.OpStamp, wire.OpComplete, wire.OpDocument, wire.OpEvidence, wire.OpPack, wire.OpRealmKeys, wire.OpWanted, wire.OpDialled} {
		_, err := h.admin.Call(ctx, op, wire.Nothing{}, nil, nil)
		wantKind(t, err, fault.Forbidden, "the operator asking for "+string(op))
	}
	for op, in := range map[wire.Op]any{
		wire.OpCertIssue: wire.CertIssue{Credentials: creds(token), CertType: "clinician", CommonName: "Eve Evil", Clinic: "a"}, wire.OpCertList: wire.CertListRequest{Credentials: creds(token)},
		wire.OpCertRevoke: wire.CertRevoke{Credentials: creds(token), Serial: h.serial, Reason: "superseded"}, wire.OpCertBind: wire.CertBind{Credentials: creds(token), Serial: h.serial, Sub: "x"},
	} {
		_, err := h.portal.call(ctx, op, in, nil, nil)
		wantCode(t, err, fault.Forbidden, "role-missing", "a clinician asking for "+string(op))
	}
	boss := h.token(t, func(p *oidctest.Person) { p.Sub, p.Roles = "boss", []string{"aes-admin"} })
	bea := h.credential(t, "b", "Bea Other", "")
	for what, c := range map[string]struct {
		op   wire.Op
		in   any
		kind fault.Kind
	}{
		"a certificate for another clinic":  {wire.OpCertIssue, wire.CertIssue{Credentials: creds(boss), CertType: "clinician", CommonName: "Eve Evil", Clinic: "b"}, fault.Forbidden},
		"a TSA":                             {wire.OpCertIssue, wire.CertIssue{Credentials: creds(boss), CertType: "tsa", CommonName: "TSA"}, fault.Forbidden},
		"a server certificate":              {wire.OpCertIssue, wire.CertIssue{Credentials: creds(boss), CertType: "tls-server", CommonName: "x.org", DNSNames: []string{"x.org"}, CSR: csr(t, "x.org")}, fault.Forbidden},
		"a CA":                              {wire.OpCertIssue, wire.CertIssue{Credentials: creds(boss), CertType: "clinician-ca", CommonName: "CA"}, fault.Invalid},
		"another clinic's list":             {wire.OpCertList, wire.CertListRequest{Credentials: creds(boss), Clinic: "b"}, fault.Forbidden},
		"revoking in another clinic":        {wire.OpCertRevoke, wire.CertRevoke{Credentials: creds(boss), Serial: bea, Reason: "superseded"}, fault.NotFound},
		"binding in another clinic":         {wire.OpCertBind, wire.CertBind{Credentials: creds(boss), Serial: bea, Sub: "boss"}, fault.NotFound},
		"binding what is bound":             {wire.OpCertBind, wire.CertBind{Credentials: creds(boss), Serial: h.serial, Sub: "boss"}, fault.Conflict},
		"an operation with unknown members": {wire.OpCertList, map[string]any{"token": boss, "surprise": 1}, fault.Invalid},
	} {
		_, err := h.portal.call(ctx, c.op, c.in, nil, nil)
		wantKind(t, err, c.kind, "an administrator asking for "+what)
	}
	var made wire.CertIssued
	if _, err := h.portal.call(ctx, wire.OpCertIssue, wire.CertIssue{Credentials: creds(boss), CertType: "clinician", CommonName: "Nora New", Register: "NMC", RegistrationNumber: "12A3456B"}, &made, nil); err != nil ||
		made.Certificate.Clinic != "a" || len(made.Chain) != 3 {
		t.Errorf("%+v, %v", made.Certificate, err)
	}
	var page wire.CertPage
	if _, err := h.portal.call(ctx, wire.OpCertList, wire.CertListRequest{Credentials: creds(boss)}, &page, nil); err != nil || len(page.Certificates) != 2 {
		t.Errorf("%+v, %v", page, err)
	}
	var one wire.Certificate
	if _, err := h.portal.call(ctx, wire.OpCertBind, wire.CertBind{Credentials: creds(boss), Serial: made.Certificate.Serial, Sub: "nora"}, &one, nil); err != nil || one.Sub != "nora" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := h.portal.call(ctx, wire.OpCertRevoke, wire.CertRevoke{Credentials: creds(boss), Serial: h.serial, Reason: "keyCompromise"}, &one, nil); err != nil || one.Status != "revoked" {
		t.Errorf("%+v, %v", one, err)
	}
	_, _, err := h.portal.sign(ctx, wanted(token, "RX-1"))
	wantCode(t, err, fault.NotFound, "certificate-not-found", "signing with a revoked certificate")
}

func TestOperationsClinicAdministersAll(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Settings: signer.Settings{AdminClinic: "b"}})
	boss := h.provider.B.Login(t, oidctest.Person{Sub: "boss", Username: "boss", Name: "Boss", Roles: []string{"aes-admin"}, ACR: "2"}).Access
	var made wire.CertIssued
	if _, err := h.portal.call(t.Context(), wire.OpCertIssue, wire.CertIssue{Credentials: creds(boss), CertType: "clinician", CommonName: "Nora New", Clinic: "a",
		Register: "GMC", RegistrationNumber: "1234567"}, &made, nil); err != nil || made.Certificate.Clinic != "a" {
		t.Errorf("%+v, %v", made, err)
	}
	_, err := h.portal.call(t.Context(), wire.OpCertIssue, wire.CertIssue{Credentials: creds(boss), CertType: "clinician", CommonName: "Nora New", Clinic: "none"}, nil, nil)
	wantKind(t, err, fault.NotFound, "a clinic that is not registered")
}

// TestNothingIsReadWithoutALine also of prescriptions that are not there, or another clinic's.
func TestNothingIsReadWithoutALine(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	foreign := h.provider.B.Login(t, h.doctor).Access
	for op, event := range map[wire.Op]string{wire.OpDocument: "prescription_pdf_downloaded", wire.OpEvidence: "evidence_summary_downloaded", wire.OpPack: "evidence_pack_downloaded"} {
		for _, ref := range []wire.PrescriptionRef{{Credentials: creds(foreign), PrescriptionID: "RX-1"}, {Credentials: creds(token), PrescriptionID: "RX-2"},
			{Credentials: creds(token), PrescriptionID: ""}, {Credentials: creds(token), PrescriptionID: "b\x00RX-1"}, {Credentials: creds(token), PrescriptionID: strings.Repeat("x", 1000)}} {
			_, err := h.portal.call(ctx, op, ref, nil, nil)
			wantCode(t, err, fault.NotFound, "prescription-not-found", string(op))
		}
		_, err := h.portal.call(ctx, op, wire.PrescriptionRef{PrescriptionID: "RX-1"}, nil, nil)
		wantCode(t, err, fault.Unauthorized, "token-missing", string(op))
		before := h.lines(t)
		f, err := h.portal.call(ctx, op, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: "RX-1"}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if f != nil {
			f.Close()
		}
		if got := h.since(t, before); !slices.Equal(got, []string{event}) {
			t.Errorf("%s left %v", op, got)
		}
	}
	if text := h.logText(t); !strings.Contains(text, `"ip":"198.51.100.9"`) || !strings.Contains(text, `"user_agent":"Browser/1.0"`) {
		t.Error("the lines do not say from where")
	}
}

// TestHostileDescriptors: what is handed in as a document is looked at before it is read.
func TestHostileDescriptors(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Settings: signer.Settings{MaxDocument: 1 << 20}})
	ctx := t.Context()
	r, err := h.portal.open(ctx, wanted(h.token(t, nil), "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := r.document(ctx)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "doc")
	if err := os.WriteFile(file, doc.PDF, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(f *os.File, err error) *os.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	rd, wr, err := os.Pipe()
	open(wr, err)
	loose, err := unix.MemfdCreate("loose", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	unsealed := open(os.NewFile(uintptr(loose), "loose"), err)
	if _, err := unsealed.Write(doc.PDF); err != nil {
		t.Fatal(err)
	}
	half, err := unix.MemfdCreate("half", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	growing := open(os.NewFile(uintptr(half), "half"), err)
	if _, err := unix.FcntlInt(growing.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	huge, err := wire.Memfd("huge", make([]byte, 3<<20))
	for what, c := range map[string]struct {
		f    *os.File
		kind fault.Kind
	}{
		"none":                      {nil, fault.Invalid},
		"a file":                    {open(os.Open(file)), fault.Invalid},
		"a folder":                  {open(os.Open("/")), fault.Invalid},
		"a pipe that never ends":    {open(rd, nil), fault.Invalid},
		"a device":                  {open(os.Open("/dev/zero")), fault.Invalid},
		"a memfd that can change":   {unsealed, fault.Invalid},
		"a memfd that can grow":     {growing, fault.Invalid},
		"a memfd that is too large": {open(huge, err), fault.TooLarge},
	} {
		_, err := h.portal.call(ctx, wire.OpComplete, wire.Complete{Operation: r.Operation, SignatureRange: doc.Signature, StampRange: doc.TimeStamp}, nil, c.f)
		wantKind(t, err, c.kind, what)
	}
	good, err := wire.Memfd("good", doc.PDF)
	open(good, err)
	_, err = h.portal.call(ctx, wire.OpStatus, wire.Nothing{}, nil, good)
	wantKind(t, err, fault.Invalid, "a descriptor that does not belong")
	for what, f := range map[string]*os.File{"a document": good, "a unix socket": unixSocket(t)} {
		_, err = h.portal.call(ctx, wire.OpRealmKeys, wire.RealmKeys{Issuer: h.provider.A.Issuer}, nil, f)
		wantKind(t, err, fault.Invalid, what+" as connection to a realm")
	}
	if _, err := r.complete(ctx, doc); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

func unixSocket(t *testing.T) *os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	f := os.NewFile(uintptr(pair[0]), "pair")
	t.Cleanup(func() { f.Close() })
	return f
}
