package wire

import (
	"encoding/json"
	"time"
)

// Op names an operation. Each has its own types for what goes in and out; the comments say what comes with them.
type Op string

// What a caller may do with a token, on the portal's socket.
const (
	OpAuthenticate  Op = "authenticate"  // AuthRequest -> Caller
	OpSignOpen      Op = "sign_open"     // SignOpen -> SignOpened
	OpSign          Op = "sign"          // SignDigest -> Signature
	OpStamp         Op = "stamp"         // StampDigest -> Stamped
	OpComplete      Op = "complete"      // Complete, the PDF as descriptor -> SignResult
	OpAbort         Op = "abort"         // Abort -> Nothing
	OpDocument      Op = "document"      // DocumentRef -> DocumentInfo, the PDF as descriptor
	OpEvidence      Op = "evidence"      // PrescriptionRef -> Evidence
	OpPack          Op = "pack"          // PrescriptionRef -> DocumentInfo, the zip as descriptor
	OpPrescriptions Op = "prescriptions" // PrescriptionsRequest -> PrescriptionPage
	OpCancel        Op = "cancel"        // CancelRequest -> Cancelled
	OpCertIssue     Op = "cert_issue"    // CertIssue -> CertIssued
	OpCertList      Op = "cert_list"     // CertListRequest -> CertPage
	OpCertRevoke    Op = "cert_revoke"   // CertRevoke -> Certificate
	OpCertBind      Op = "cert_bind"     // CertBind -> Certificate
)

// What needs no token, on the portal's socket.
const (
	OpTSA        Op = "tsa"        // DER -> DER: RFC 3161, always an answer
	OpOCSP       Op = "ocsp"       // DER -> DER: RFC 6960, always an answer
	OpPublished  Op = "published"  // PublishedRequest -> Published
	OpStatus     Op = "status"     // Nothing -> Status
	OpRealmKeys  Op = "realm_keys" // RealmKeys, the connection as descriptor -> Nothing
	OpListener   Op = "listener"   // ListenerRequest -> ListenerCertificate
	OpCheckpoint Op = "checkpoint" // Nothing -> Checkpoint; the admin socket has it too
	OpWanted     Op = "wanted"     // Nothing -> Wanted: waits until a connection to the backup host is wanted
	OpDialled    Op = "dialled"    // Dialled, the connection as descriptor -> Nothing
)

// What only the admin socket has, besides status and the operations on certificates (their Token stays empty there).
const (
	OpClinicAdd    Op = "clinic_add"    // Clinic -> Clinic
	OpClinicList   Op = "clinic_list"   // Nothing -> ClinicPage
	OpClinicPolicy Op = "clinic_policy" // ClinicPolicy -> Clinic
	OpRealmAdd     Op = "realm_add"     // Realm -> Realm
	OpRealmRemove  Op = "realm_remove"  // RealmRef -> Nothing
	OpRealmList    Op = "realm_list"    // Nothing -> RealmPage
	OpCertRenew    Op = "cert_renew"    // CertRef -> CertIssued
	OpCertGet      Op = "cert_get"      // CertRef -> CertIssued
	OpReload       Op = "reload"        // Nothing -> Nothing
	OpBackupEnrol  Op = "backup_enrol"  // BackupEnrol -> BackupOffer
	OpBackupGiveUp Op = "backup_giveup" // BackupGiveUp -> BackupStatus
	OpBackupStatus Op = "backup_status" // Nothing -> BackupStatus
	OpBackupRotate Op = "backup_rotate" // Nothing -> BackupOffer
	OpTokenBackup  Op = "token_backup"  // Nothing -> TokenBackup
	OpBackupCopy   Op = "backup_copy"   // Nothing -> BackupCopy: fetches and verifies what the backup holds; asked again while it runs
	OpBackupDrill  Op = "backup_drill"  // BackupDrill -> Nothing: it was held, and went well

	OpRenewOpen Op = "renew_open" // Nothing -> RenewOpened

	OpCeremonyBegin    Op = "ceremony_begin"    // CeremonyBegin -> CeremonyBegun
	OpCeremonyComplete Op = "ceremony_complete" // CeremonyComplete -> CeremonyDone
	OpRenewMaterial    Op = "renew_material"    // DER, a time-stamp token -> Material
	OpRenewStamp       Op = "renew_stamp"       // RenewStamp -> Stamped
	OpRenewed          Op = "renewed"           // Renewed -> Nothing
	OpArchiveDue       Op = "archive_due"       // ArchiveDue -> ArchiveList
	OpArchiveOpen      Op = "archive_open"      // ArchiveRef -> ArchiveOpened, the PDF as descriptor
	OpArchiveStamp     Op = "archive_stamp"     // ArchiveStamp -> Stamped
	OpArchiveKeep      Op = "archive_keep"      // ArchiveKeep, what was appended as descriptor -> Archived
)

// Nothing is the body of what has none to give.
type Nothing struct{}

// DER is one DER-encoded structure.
type DER struct {
	DER []byte `json:"der"`
}

// Observed is what the portal saw of a request itself.
type Observed struct {
	PeerIP     string    `json:"peer_ip"` // after trusted proxies
	ReceivedAt time.Time `json:"received_at"`
	RequestID  string    `json:"request_id"`
}

// Asserted is the booking app's word about its own user.
type Asserted struct {
	BrowserIP string `json:"browser_ip,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

// Credentials are in every request that acts for somebody. The signer verifies the token itself, each time.
type Credentials struct {
	Token    string   `json:"token"` // the bearer's, a JWT
	Observed Observed `json:"observed"`
	Asserted Asserted `json:"asserted"`
}

// Bearer returns the credentials that every request embedding them carries.
func (c Credentials) Bearer() Credentials { return c }

// AuthRequest asks whose token it is.
type AuthRequest struct {
	Credentials
}

// Kinds of caller.
const (
	KindClinician = "clinician"
	KindService   = "service" // a service account: reduced evidence, where the clinic's policy allows it at all
	KindAdmin     = "admin"
)

// Caller is who a token speaks for.
type Caller struct {
	Clinic          string    `json:"clinic"`
	Issuer          string    `json:"issuer"`
	Sub             string    `json:"sub"`
	Username        string    `json:"username"`
	Name            string    `json:"name"`
	Roles           []string  `json:"roles"`
	ACR             string    `json:"acr"`
	AuthTime        time.Time `json:"auth_time,omitzero"`
	Expires         time.Time `json:"expires"`
	Kind            string    `json:"kind"`
	GivenPDFAllowed bool      `json:"given_pdf_allowed"`
	MaxDocument     int64     `json:"max_document"` // bytes
}

// RealmKeys hands over a connection that NeedDial asked for. Observed says on whose behalf it was dialled.
type RealmKeys struct {
	Issuer   string   `json:"issuer"`
	Observed Observed `json:"observed"`
}

// PublishedRequest names a CA's certificate or list, as certificates point to it.
type PublishedRequest struct {
	Name string `json:"name"`
}

// Published is such a file.
type Published struct {
	DER         []byte `json:"der"`
	ContentType string `json:"content_type"`
}

// Checkpoint is a signed state of the log: the newest that others cosigned, or else its newest.
type Checkpoint struct {
	Note         []byte        `json:"note"` // C2SP tlog-checkpoint, with all signatures
	Size         uint64        `json:"size"`
	Root         string        `json:"root"` // hexadecimal
	Cosignatures []Cosignature `json:"cosignatures,omitempty"`
	Witnesses    []Witness     `json:"witnesses,omitempty"` // all that are asked
}

// Witness is how one stands that is asked to cosign the log's checkpoints.
type Witness struct {
	Name   string    `json:"name"`          // in the policy
	Size   uint64    `json:"size"`          // of the log when it cosigned last
	Time   time.Time `json:"time,omitzero"` // when that was
	Failed string    `json:"failed,omitempty"`
}

// Cosignature says who vouches for a checkpoint.
type Cosignature struct {
	Name string    `json:"name"`
	Key  string    `json:"key"` // verifier key
	Time time.Time `json:"time"`
}

// Status is how the signer is.
type Status struct {
	Ready     bool        `json:"ready"` // it signs
	Reasons   []string    `json:"reasons,omitempty"`
	Clock     Clock       `json:"clock"`
	Lines     uint64      `json:"lines"` // of the log
	Head      string      `json:"head"`  // hash of the last, hexadecimal
	Version   string      `json:"version"`
	Demo      bool        `json:"demo"`
	Root      []byte      `json:"root"`                  // DER: what signatures made here are verified against
	Listener  string      `json:"listener_ca,omitempty"` // serial of the CA that certifies the portal's listener now
	LogKey    string      `json:"log_key"`               // verifier key (C2SP signed-note) of the log's checkpoints
	Open      int         `json:"open_operations"`
	Backup    Backup      `json:"backup"`
	Verified  LogVerified `json:"log_verified"`
	Witnessed Witnessed   `json:"witnessed"`
}

// Witnessed is what the witnesses of the policy that have an address say of the log.
type Witnessed struct {
	Asked      int       `json:"asked"`       // how many there are
	Contradict int       `json:"contradict"`  // of them that have cosigned another history, or lines that are gone
	At         time.Time `json:"at,omitzero"` // of the newest cosignature of a checkpoint that satisfied the policy
}

// LogVerified is what the running signer's verifications of its whole log have found.
type LogVerified struct {
	At       time.Time `json:"at,omitzero"`      // end of the last good one since the start
	Lines    uint64    `json:"lines"`            // that it covered
	Failures uint64    `json:"failures"`         // those that were not good, since the start
	Damage   string    `json:"damage,omitempty"` // what is wrong with the log: nothing is signed
}

// Clock is how the signer's time stands.
type Clock struct {
	Time     time.Time     `json:"time,omitzero"`
	Mode     string        `json:"mode"`
	Proven   bool          `json:"proven"`
	MaxError time.Duration `json:"max_error_ns"`
}

// ListenerRequest asks for a TLS server certificate of the appliance's own CA, for the names that the configuration gives the portal and no other.
type ListenerRequest struct {
	CSR []byte `json:"csr"` // PKCS#10, DER
}

// ListenerCertificate is the answer, the leaf first, without the root.
type ListenerCertificate struct {
	Chain [][]byte `json:"chain"`
}

// Raw is JSON that only one of the two sides understands.
type Raw = json.RawMessage
