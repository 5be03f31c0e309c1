package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// Basis says how a fact is known.
type Basis string

const (
	Verified Basis = "verified" // the signer checked a signature over it, or made it itself
	Observed Basis = "observed" // the portal, the appliance's other process, saw it or did it: the signer has its word for it
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
	p := in.Prescription
	c := core{
		Format: coreFormat, Type: EvidenceType, Salt: hex.EncodeToString(in.Salt[:]),
		Prescription: corePrescription{p.ID, p.Clinic, p.ClinicianName, p.PatientName, p.MedicationName, p.SignedAt.UTC(), p.ContentSHA256},
		PDF:          corePDF{"/api/pdf/" + url.PathEscape(p.ID), in.Document.SHA256, in.Document.Size, in.Document.Source},
		Actor:        in.actor(),
		Consent:      coreConsent{in.Consent.Text, in.Consent.Timestamp, Asserted},
		Activation:   coreActivation{in.Activation.Level, in.Activation.Kind, in.Activation.Statement()},
		Pillars:      in.pillars(),
	}
	return canonical(c)
}

// pillars says what is known, and how.
func (in *Input) pillars() map[string]facts {
	p, s := in.Prescription, in.Signature
	all := map[string]facts{
		pillarCryptographic: {
			"signature":              {s.ID, Verified},
			"document_digest":        {s.Digest, Verified},
			"signature_algorithm":    {s.Algorithm, Verified},
			"certificate_serial":     {s.CertificateSerial, Verified},
			"certificate_sha256":     {s.CertificateSHA256, Verified},
			"certificate_issuer":     {s.Issuer, Verified},
			"certificate_chain":      {append([]Certificate{}, s.Chain...), Verified},
			"revocation_material":    {append([]Revocation{}, s.Revocation...), Verified},
			"root_sha256":            {s.RootSHA256, Verified},
			"signature_format_level": {"PAdES-B-LTA", Observed}, // the signer made what that takes and parses no PDF; a validator sees what the document is
		},
		pillarIdentity: in.identity(),
		pillarForensic: {
			"peer_ip":     {in.Request.PeerIP, Observed},
			"received_at": {in.Request.ReceivedAt.UTC(), Observed},
			"request_id":  {in.Request.RequestID, Observed},
			"browser_ip":  {said(in.Request.BrowserIP), Asserted},
			"user_agent":  {said(in.Request.UserAgent), Asserted},
		},
		pillarIntent: {
			"consent_text":      {in.Consent.Text, Asserted},
			"consent_timestamp": {in.Consent.Timestamp, Asserted},
			"content_sha256":    {p.ContentSHA256, Verified},
			"content":           {"what content_sha256 is over (patient, medicine, clinician's name) is as the caller sent it", Asserted},
			"document_source":   {in.Document.Source, Observed},
			"activation_level":  {in.Activation.Level, Verified},
			"credential_kind":   {in.Activation.Kind, Verified},
		},
		pillarTemporal: {
			"time_stamps":             {s.stamps(), Verified},
			"clock_proven":            {in.Clock.Proven, Verified},
			"clock_max_error_ms":      {in.Clock.bound(), Verified},
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
	}
	if m := in.Medicine; m.Schedule != "" {
		intent := all[pillarIntent]
		intent["controlled_drug_schedule"] = fact{m.Schedule, m.basis()}
		intent["dmd_release"], intent["dmd_sha256"] = fact{m.DMDRelease, Verified}, fact{m.DMDSHA256, Verified}
	}
	return all
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
		"token_username":          {said(t.Username), Verified},
		"token_name":              {said(t.Name), Verified},
		"token_acr":               {said(t.ACR), Verified},
		"token_auth_time":         {known(t.AuthTime), Verified},
		"token_issued_at":         {known(t.IssuedAt), Verified},
		"token_expires":           {known(t.Expires), Verified},
		"token_jti":               {said(t.JTI), Verified},
		"token_sid":               {said(t.SID), Verified},
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

// said is a text that may be missing: nobody said nothing.
func said(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// bound is the largest error of a proven clock in milliseconds; of one that is not there is none.
func (c Clock) bound() any {
	if !c.Proven {
		return nil
	}
	return c.MaxError.Milliseconds()
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
