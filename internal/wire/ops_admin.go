package wire

import "time"

// CertIssue asks for a certificate. On the portal's socket the token must be an admin's, and a clinician's certificate is for its own clinic.
type CertIssue struct {
	Credentials
	CertType           string   `json:"cert_type"`
	CommonName         string   `json:"common_name"`
	Org                string   `json:"org,omitempty"`
	Country            string   `json:"country,omitempty"`
	GivenName          string   `json:"given_name,omitempty"`
	Surname            string   `json:"surname,omitempty"`
	Register           string   `json:"register,omitempty"`            // GMC, NMC, GDC, GPhC
	RegistrationNumber string   `json:"registration_number,omitempty"` // in that register
	Clinic             string   `json:"clinic,omitempty"`
	Sub                string   `json:"sub,omitempty"` // binds the credential to whom the clinic's realm knows by it
	ValidityDays       int      `json:"validity_days,omitempty"`
	Algorithm          string   `json:"algorithm,omitempty"`
	CSR                []byte   `json:"csr,omitempty"` // TLS only; PKCS#10, DER
	DNSNames           []string `json:"dns_names,omitempty"`
	Addresses          []string `json:"addresses,omitempty"`
}

// Certificate is one certificate and what became of it.
type Certificate struct {
	Serial       string    `json:"serial"`
	CertType     string    `json:"cert_type"`
	CommonName   string    `json:"common_name"`
	Clinic       string    `json:"clinic,omitempty"`
	Sub          string    `json:"sub,omitempty"` // whom it is bound to; "" = nobody: it does not sign
	Organization string    `json:"org,omitempty"`
	Country      string    `json:"country,omitempty"`
	SerialNumber string    `json:"subject_serial_number,omitempty"` // GM:GB-1234567
	Algorithm    string    `json:"algorithm"`
	NotBefore    time.Time `json:"not_before"`
	NotAfter     time.Time `json:"not_after"`
	Status       string    `json:"status"` // valid, expired, revoked
	KeyExists    bool      `json:"key_exists"`
	IssuedAt     time.Time `json:"issued_at"`
	RevokedAt    time.Time `json:"revoked_at,omitzero"`
	Reason       string    `json:"reason,omitempty"`
	Renews       string    `json:"renews,omitempty"`
	RenewedBy    string    `json:"renewed_by,omitempty"`
	Issuer       string    `json:"issuer_serial"`
}

// CertIssued is a new certificate with its chain: itself first, the root last, DER.
type CertIssued struct {
	Certificate Certificate `json:"certificate"`
	Chain       [][]byte    `json:"chain"`
}

// CertListRequest selects certificates; empty fields select all. On the portal's socket they are those of the admin's clinic.
type CertListRequest struct {
	Credentials
	Clinic       string `json:"clinic,omitempty"`
	CertType     string `json:"cert_type,omitempty"`
	Status       string `json:"status,omitempty"`
	Expiring     bool   `json:"expiring,omitempty"`      // only valid ones without successor that end within ExpiringDays
	ExpiringDays int    `json:"expiring_days,omitempty"` // more than 0 asks for the same without Expiring
	Cursor       string `json:"cursor,omitempty"`
	Limit        int    `json:"limit,omitempty"` // 1 to 1000; 0 = 100
}

// CertPage is a page of certificates in the order of their issuance.
type CertPage struct {
	Certificates []Certificate `json:"certificates"`
	Next         string        `json:"next,omitempty"`
}

// CertRevoke revokes a certificate, from now on.
type CertRevoke struct {
	Credentials
	Serial         string    `json:"serial"`
	Reason         string    `json:"reason"`                   // RFC 5280 §5.3.1: keyCompromise, superseded, …
	InvalidityDate time.Time `json:"invalidity_date,omitzero"` // when it is suspected to have gone wrong
}

// CertRef names a certificate.
type CertRef struct {
	Serial       string `json:"serial"`
	ValidityDays int    `json:"validity_days,omitempty"` // of the renewed one; 0 = the profile's
}

// CertBind binds a clinician's certificate that is bound to nobody.
type CertBind struct {
	Credentials
	Serial string `json:"serial"`
	Sub    string `json:"sub"`
}

// Clinic is a registered clinic.
type Clinic struct {
	Slug    string    `json:"clinic"` // a-z 0-9 -
	Name    string    `json:"name"`
	Policy  *Policy   `json:"policy,omitempty"` // nil when adding: the default
	AddedAt time.Time `json:"added_at,omitzero"`
}

// ClinicPage is all clinics.
type ClinicPage struct {
	Clinics []Clinic `json:"clinics"`
}

// ClinicPolicy changes a clinic's policy as a whole.
type ClinicPolicy struct {
	Slug   string `json:"clinic"`
	Policy Policy `json:"policy"`
}

// Policy is what a clinic demands, field by field activation.Policy.
type Policy struct {
	ACRValues           []string `json:"acr_values"`
	MaxAuthAge          int64    `json:"max_auth_age_seconds"`
	Audiences           []string `json:"audiences"`
	AuthorizedParties   []string `json:"authorized_parties"`
	ServiceAccounts     string   `json:"service_accounts"` // off or reduced
	ServiceClients      []string `json:"service_clients"`
	GivenPDF            bool     `json:"given_pdf"`
	SignaturesPerToken  int      `json:"signatures_per_token"`
	SignaturesPerMinute int      `json:"signatures_per_minute"`
	AdminRole           string   `json:"admin_role"`
	ClinicianRole       string   `json:"clinician_role"`
	TradingNames        []string `json:"trading_names,omitempty"`
}

// Realm is a clinic's registered realm.
type Realm struct {
	Issuer  string    `json:"issuer"` // exactly as tokens have it
	Clinic  string    `json:"clinic"`
	CA      string    `json:"ca,omitempty"` // PEM of who vouches for its TLS; "" = the system's roots
	AddedAt time.Time `json:"added_at,omitzero"`
}

// RealmRef names a realm.
type RealmRef struct {
	Issuer string `json:"issuer"`
}

// RealmPage is all realms.
type RealmPage struct {
	Realms []Realm `json:"realms"`
}

// RenewOpened is what a renewal begins with.
type RenewOpened struct {
	Time      time.Time `json:"time"`       // proven
	StampSize int       `json:"stamp_size"` // of a token, DER, at most
}

// Material is what validates a time-stamp token; all DER.
type Material struct {
	Certs [][]byte `json:"certs"`
	OCSPs [][]byte `json:"ocsps"`
	CRLs  [][]byte `json:"crls"`
}

// RenewStamp asks for a further document time stamp over the SHA-256 of a ByteRange.
type RenewStamp struct {
	Digest []byte `json:"digest"`
}

// Renewed records that one document became another by a further time stamp. Hashes are SHA-256, hexadecimal.
type Renewed struct {
	From string `json:"from"`
	To   string `json:"to"`
	Size int64  `json:"size"` // of the renewed one, in bytes
}
