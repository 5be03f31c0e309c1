package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// Basis says how a fact is known.
type Basis string

const (
	Verified Basis = "verified" // the signer checked a signature over it, or made it itself
	Observed Basis = "observed" // the portal saw it
	Asserted Basis = "asserted" // the caller said so
)

// Level is how the signature was activated.
type Level string

const (
	LevelToken   Level = "token"   // a bearer token of the clinician's realm
	LevelPasskey Level = "passkey" // the clinician's own device, for this one document
)

// Kind says whose credential activated the signature.
type Kind string

const (
	KindClinician Kind = "clinician" // the clinician's own token
	KindService   Kind = "service"   // a service account's: reduced evidence, not an advanced electronic signature in law
)

// Input is what is known when a document has been signed and stamped, before its prescription_signed line. Times are kept to the second or finer
// in UTC; the zero time and the empty string mean "not known", where that is allowed.
type Input struct {
	// Salt is fresh randomness: the core's hash is in the log, and nobody may find out a patient's name by trying names.
	Salt [32]byte

	Prescription Prescription
	Document     Document
	Token        Token
	Request      Request
	Consent      Consent
	Signature    Signature
	Clock        Clock
	Activation   Activation

	Lines []Position // that exist already: signature_created, and others that the signing rests on
}

// Prescription names what was prescribed. The document holds the rest.
type Prescription struct {
	ID             string
	Clinic         string // slug
	ClinicianName  string
	PatientName    string
	MedicationName string
	SignedAt       time.Time
	ContentSHA256  string // of the canonical request without its token, hexadecimal: what "same content" means
}

// Document is the signed PDF.
type Document struct {
	SHA256 string // of the whole file, hexadecimal
	Size   int64
	Source string // "rendered" by the appliance from the prescription, or "given" by the caller
}

// Token is what the verified bearer token said; the token itself is never kept.
type Token struct {
	Issuer, Sub, Username, Name string
	ACR                         string
	AuthTime                    time.Time // zero: the token has none
	IssuedAt, Expires           time.Time
	JTI, SID, AuthorizedParty   string
	Audience, Roles             []string
	SHA256                      string // of the token, hexadecimal
	Algorithm, Kid              string
	KeyThumbprint               string    // of the realm's key that verified it, hexadecimal SHA-256
	KeyFirstSeen                *Position // the line in which that key first appeared
}

// Request is what came with the request. PeerIP, ReceivedAt and RequestID are the portal's observation; the rest is the caller's word.
type Request struct {
	PeerIP, RequestID    string
	ReceivedAt           time.Time
	BrowserIP, UserAgent string
}

// Consent is what the clinician agreed to, as the caller reports it.
type Consent struct {
	Text      string
	Timestamp string // as given
}

// Signature is what was made.
type Signature struct {
	ID                 string // SHA-256 of the signature value, hexadecimal, as in signature_created
	Digest             string // SHA-256 of the signed ByteRange, hexadecimal
	Algorithm          string // in words: "ECDSA P-256 with SHA-256"
	CertificateSerial  string
	CertificateSHA256  string
	CommonName         string
	RegistrationNumber string // of the certificate's subject: "GM:GB-7654321"
	BoundSub           string // the token subject that the certificate was bound to at issuance
	Issuer             string // common name of the issuing CA
	RootSHA256         string // of the root certificate
	Stamps             []Stamp
}

// Stamp is one RFC 3161 time stamp: the signature's, then the document's.
type Stamp struct {
	Time   time.Time `json:"time"`
	Serial string    `json:"serial"`
	Policy string    `json:"policy"`
}

// Clock is the state of the clock when the time stamps were made.
type Clock struct {
	Proven   bool
	MaxError time.Duration
}

// Activation says by what the signature was activated.
type Activation struct {
	Level Level
	Kind  Kind
}

// Position names a line of the log.
type Position struct {
	Seq       uint64    `json:"seq"` // counted from 0
	EventType string    `json:"event_type"`
	Time      time.Time `json:"timestamp"`
	Hash      string    `json:"hash"` // the line's own, hexadecimal
}

// coreFormat is the version of the core. Another meaning of anything in it is another version.
const coreFormat = "aes-evidence-core/1"

// EvidenceType is the evidence_type of every summary.
const EvidenceType = "PAdES-B-LTA Evidence Summary"

// fact is a value with how it is known.
type fact struct {
	Value any   `json:"value"`
	Basis Basis `json:"basis"`
}

type facts map[string]fact

// The seven pillars.
const (
	pillarCryptographic = "cryptographic"
	pillarIdentity      = "identity"
	pillarForensic      = "forensic"
	pillarIntent        = "intent"
	pillarTemporal      = "temporal"
	pillarCustody       = "chain_of_custody"
	pillarTamper        = "tamper_evidence"
)

// core is the JSON form of an Input.
type core struct {
	Format       string           `json:"format"`
	Type         string           `json:"evidence_type"`
	Salt         string           `json:"salt"`
	Prescription corePrescription `json:"prescription"`
	PDF          corePDF          `json:"signed_pdf"`
	Actor        coreActor        `json:"actor_evidence"`
	Consent      coreConsent      `json:"consent"`
	Activation   coreActivation   `json:"activation"`
	Pillars      map[string]facts `json:"pillars"`
}

type corePrescription struct {
	ID             string    `json:"prescription_id"`
	Clinic         string    `json:"clinic"`
	ClinicianName  string    `json:"clinician_name"`
	PatientName    string    `json:"patient_name"`
	MedicationName string    `json:"medication_name"`
	SignedAt       time.Time `json:"signed_at"`
	Content        string    `json:"content_sha256"`
}

type corePDF struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Source string `json:"source"`
}

type coreActor struct {
	Sub       string           `json:"keycloak_sub"`
	Username  string           `json:"username"`
	ACR       string           `json:"authentication_context_ref"`
	AuthTime  *time.Time       `json:"auth_time"`
	IP        string           `json:"ip_address"`
	UserAgent string           `json:"user_agent"`
	Basis     map[string]Basis `json:"basis"`
}

type coreConsent struct {
	Text      string `json:"text"`
	Timestamp string `json:"timestamp"`
	Basis     Basis  `json:"basis"`
}

type coreActivation struct {
	Level     Level  `json:"level"`
	Kind      Kind   `json:"kind"`
	Statement string `json:"statement"`
}

// Statement says in one sentence what an activation amounts to, for every place where a signature is described.
func (a Activation) Statement() string {
	switch {
	case a.Kind == KindService:
		return "Activated with a service account's token: reduced evidence, not an advanced electronic signature."
	case a.Level == LevelPasskey:
		return "Activated for this one document by the clinician's own device."
	}
	return "Activated with the clinician's own access token, which the signer verified."
}

// Core returns the core of the evidence as canonical JSON (RFC 8785, in the restricted form of docs/audit-log.md). What must be known and is
// missing, or is not what it should be, is an error that names all of it.
//
//	Core(in) is the same for the same in.
func Core(in Input) ([]byte, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	p, s := in.Prescription, in.Signature
	c := core{
		Format: coreFormat, Type: EvidenceType, Salt: hex.EncodeToString(in.Salt[:]),
		Prescription: corePrescription{p.ID, p.Clinic, p.ClinicianName, p.PatientName, p.MedicationName, p.SignedAt.UTC(), p.ContentSHA256},
		PDF:          corePDF{"/api/pdf/" + url.PathEscape(p.ID), in.Document.SHA256, in.Document.Size, in.Document.Source},
		Actor:        in.actor(),
		Consent:      coreConsent{in.Consent.Text, in.Consent.Timestamp, Asserted},
		Activation:   coreActivation{in.Activation.Level, in.Activation.Kind, in.Activation.Statement()},
		Pillars: map[string]facts{
			pillarCryptographic: {
				"signature":              {s.ID, Verified},
				"document_digest":        {s.Digest, Verified},
				"signature_algorithm":    {s.Algorithm, Verified},
				"certificate_serial":     {s.CertificateSerial, Verified},
				"certificate_sha256":     {s.CertificateSHA256, Verified},
				"certificate_issuer":     {s.Issuer, Verified},
				"root_sha256":            {s.RootSHA256, Verified},
				"signature_format_level": {"PAdES-B-LTA", Verified},
			},
			pillarIdentity: in.identity(),
			pillarForensic: {
				"peer_ip":     {in.Request.PeerIP, Observed},
				"received_at": {in.Request.ReceivedAt.UTC(), Observed},
				"request_id":  {in.Request.RequestID, Observed},
				"browser_ip":  {in.Request.BrowserIP, Asserted},
				"user_agent":  {in.Request.UserAgent, Asserted},
			},
			pillarIntent: {
				"consent_text":      {in.Consent.Text, Asserted},
				"consent_timestamp": {in.Consent.Timestamp, Asserted},
				"content_sha256":    {p.ContentSHA256, Verified},
				"document_source":   {in.Document.Source, Verified},
				"activation_level":  {in.Activation.Level, Verified},
				"credential_kind":   {in.Activation.Kind, Verified},
			},
			pillarTemporal: {
				"time_stamps":             {s.stamps(), Verified},
				"clock_proven":            {in.Clock.Proven, Verified},
				"clock_max_error_ms":      {in.Clock.MaxError.Milliseconds(), Verified},
				"qualified":               {false, Verified}, // UK eIDAS Art 42 speaks of other time stamps
				"consent_timestamp_claim": {in.Consent.Timestamp, Asserted},
			},
			pillarCustody: {
				"lines":      {utcLines(in.Lines), Verified},
				"pdf_sha256": {in.Document.SHA256, Verified},
				"pdf_size":   {in.Document.Size, Verified},
			},
			pillarTamper: {
				"core_hash":     {"SHA-256 of this core is evidence_sha256 in the prescription_signed line", Verified},
				"hash_function": {"SHA-256", Verified},
				"log_format":    {"hash chain and RFC 6962 tree, version 1", Verified},
			},
		},
	}
	return canonical(c)
}

func (in *Input) actor() coreActor {
	a := coreActor{
		Sub: in.Token.Sub, Username: in.Token.Username, ACR: in.Token.ACR, AuthTime: known(in.Token.AuthTime),
		IP: in.Request.BrowserIP, UserAgent: in.Request.UserAgent,
		Basis: map[string]Basis{
			"keycloak_sub": Verified, "username": Verified, "authentication_context_ref": Verified, "auth_time": Verified,
			"ip_address": Asserted, "user_agent": Asserted,
		},
	}
	if a.IP == "" {
		a.IP, a.Basis["ip_address"] = in.Request.PeerIP, Observed
	}
	return a
}

func (in *Input) identity() facts {
	t, s := in.Token, in.Signature
	return facts{
		"token_issuer":            {t.Issuer, Verified},
		"token_sub":               {t.Sub, Verified},
		"token_username":          {t.Username, Verified},
		"token_name":              {t.Name, Verified},
		"token_acr":               {t.ACR, Verified},
		"token_auth_time":         {known(t.AuthTime), Verified},
		"token_issued_at":         {known(t.IssuedAt), Verified},
		"token_expires":           {known(t.Expires), Verified},
		"token_jti":               {t.JTI, Verified},
		"token_sid":               {t.SID, Verified},
		"token_authorized_party":  {t.AuthorizedParty, Verified},
		"token_audience":          {list(t.Audience), Verified},
		"token_roles":             {list(t.Roles), Verified},
		"token_sha256":            {t.SHA256, Verified},
		"token_algorithm":         {t.Algorithm, Verified},
		"realm_key_id":            {t.Kid, Verified},
		"realm_key_thumbprint":    {t.KeyThumbprint, Verified},
		"realm_key_first_seen":    {t.KeyFirstSeen, Verified},
		"certificate_common_name": {s.CommonName, Verified},
		"registration_number":     {s.RegistrationNumber, Verified},
		"bound_sub":               {s.BoundSub, Verified},
	}
}

func (s *Signature) stamps() []Stamp {
	out := make([]Stamp, len(s.Stamps))
	for i, t := range s.Stamps {
		t.Time = t.Time.UTC()
		out[i] = t
	}
	return out
}

func utcLines(in []Position) []Position {
	out := make([]Position, len(in))
	for i, p := range in {
		p.Time = p.Time.UTC()
		out[i] = p
	}
	return out
}

// known returns t in UTC, nil when it is not known.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// list returns s as a JSON array also when it is empty.
func list(s []string) []string { return append([]string{}, s...) }

// check returns all that is missing or wrong.
func (in *Input) check() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"prescription ID", in.Prescription.ID}, {"clinic", in.Prescription.Clinic}, {"clinician's name", in.Prescription.ClinicianName},
		{"patient's name", in.Prescription.PatientName}, {"medication's name", in.Prescription.MedicationName},
		{"token issuer", in.Token.Issuer}, {"token subject", in.Token.Sub}, {"peer address", in.Request.PeerIP}, {"request ID", in.Request.RequestID},
		{"consent text", in.Consent.Text}, {"consent timestamp", in.Consent.Timestamp},
		{"certificate serial", in.Signature.CertificateSerial}, {"certificate's common name", in.Signature.CommonName},
	} {
		if f.value == "" {
			errs = append(errs, errors.New("there is no "+f.name))
		}
	}
	for _, f := range []struct{ name, value string }{
		{"document SHA-256", in.Document.SHA256}, {"content SHA-256", in.Prescription.ContentSHA256}, {"token SHA-256", in.Token.SHA256},
		{"signature", in.Signature.ID}, {"signed digest", in.Signature.Digest}, {"certificate SHA-256", in.Signature.CertificateSHA256},
		{"root SHA-256", in.Signature.RootSHA256},
	} {
		if !isHash(f.value) {
			errs = append(errs, fmt.Errorf("the %s %q is not 64 lower-case hexadecimal digits", f.name, f.value))
		}
	}
	for _, l := range in.Lines {
		if !isHash(l.Hash) {
			errs = append(errs, fmt.Errorf("the hash of line %d is %q", l.Seq, l.Hash))
		}
	}
	if in.Salt == [32]byte{} {
		errs = append(errs, errors.New("the salt is not random"))
	}
	if s := in.Document.Source; s != "rendered" && s != "given" {
		errs = append(errs, fmt.Errorf("the document's source is %q, neither rendered nor given", s))
	}
	if in.Document.Size <= 0 || in.Prescription.SignedAt.IsZero() || in.Request.ReceivedAt.IsZero() {
		errs = append(errs, errors.New("the document's size, the time of signing or the time of receipt is missing"))
	}
	if l := in.Activation.Level; l != LevelToken && l != LevelPasskey {
		errs = append(errs, fmt.Errorf("the level of activation is %q", l))
	}
	if k := in.Activation.Kind; k != KindClinician && k != KindService {
		errs = append(errs, fmt.Errorf("the kind of credential is %q", k))
	}
	if len(in.Signature.Stamps) == 0 || len(in.Lines) == 0 {
		errs = append(errs, errors.New("time stamps or lines of the log are missing"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("evidence: %w", errors.Join(errs...))
	}
	return nil
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == s
}

// canonical returns v as canonical JSON.
func canonical(v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	out, err := chain.Canonical(nil, plain)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return out, nil
}

// isCanonical reports whether b is what canonical returns for something.
func isCanonical(b []byte) bool {
	c, err := chain.Canonical(nil, b)
	return err == nil && bytes.Equal(c, b)
}

// SHA256 returns the SHA-256 of a core as it stands in a prescription_signed line: lower-case hexadecimal.
func SHA256(core []byte) string {
	sum := sha256.Sum256(core)
	return hex.EncodeToString(sum[:])
}
