package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Result is the outcome of one check.
type Result string

const (
	Pass    Result = "pass"
	Fail    Result = "fail"    // contradicts what the pack claims
	Unknown Result = "unknown" // cannot be judged with what the caller trusts

	// NotJudged: the caller did not ask, and the verdict does not rest on it.
	NotJudged Result = "not_judged"
)

// Check is one thing that was checked.
type Check struct {
	Name   string `json:"name"` // stable
	Result Result `json:"result"`
	Text   string `json:"text"`
}

// Verdict is the answer for the whole pack.
type Verdict string

const (
	Valid         Verdict = "valid"           // every check passed
	Invalid       Verdict = "invalid"         // one failed
	CouldNotJudge Verdict = "could_not_judge" // none failed, but one could not be judged
)

// PackReport is the result of verifying one pack. Its JSON form is stable: fields may be added.
type PackReport struct {
	Verdict        Verdict   `json:"verdict"`
	ExitCode       int       `json:"exit_code"` // 0 valid, 1 invalid, 2 could not judge
	Summary        string    `json:"summary"`   // one sentence
	PrescriptionID string    `json:"prescription_id,omitempty"`
	Clinician      string    `json:"clinician_name,omitempty"`
	SignedAt       time.Time `json:"signed_at,omitzero"`
	Status         string    `json:"status,omitempty"`
	Activation     string    `json:"activation,omitempty"` // what it amounts to
	CreatedAt      time.Time `json:"created_at,omitzero"`  // of the pack
	LogKey         string    `json:"log_key,omitempty"`    // the pack's own word
	Checks         []Check   `json:"checks"`
	PDF            any       `json:"pdf,omitempty"` // PDFJudgement.Report
}

// PDFJudgement is what is said of the PDF's signatures.
type PDFJudgement struct {
	Result  Result
	Summary string // one sentence
	Report  any    // goes into PackReport.PDF
}

// VerifyOptions say what the caller trusts.
type VerifyOptions struct {
	// JudgePDF judges the signatures of the pack's PDF under the caller's trust anchors, given the pack's CRLs as what is known besides the file.
	// nil: they are not judged, and the verdict is at best CouldNotJudge.
	JudgePDF func(ctx context.Context, pdf []byte, crls [][]byte) (PDFJudgement, error)

	// LogKeys are verifier keys of logs that the caller has from elsewhere. None: the checkpoint is held against the pack's own key, and the verdict is
	// at best CouldNotJudge.
	LogKeys []string

	// Policy says whose cosignatures the checkpoint must have. nil: they are not judged. Too few of them is Unknown: nothing is wrong with the pack, but it
	// is not what the caller relies on.
	Policy *chain.Policy

	// JudgeStamp judges another authority's time stamp over a checkpoint under the caller's trust anchors. nil: it is not judged.
	JudgeStamp func(token, note []byte) (Result, string)
}

// IsPack reports whether data begins as a zip file does, so that it is a pack or nothing that VerifyPack would take.
func IsPack(data []byte) bool { return bytes.HasPrefix(data, []byte("PK")) }

// VerifyPack checks an evidence pack offline. What is wrong with the pack is in the report; an error means that it could not be read, or that
// JudgePDF gave one. Nothing in the pack is trusted: the PDF rests on JudgePDF's anchors, all else on the log's key.
func VerifyPack(ctx context.Context, r io.ReaderAt, size int64, o VerifyOptions) (*PackReport, error) {
	if size > maxPack {
		return nil, fault.New(fault.TooLarge, fmt.Sprintf("an evidence pack has at most %d bytes, not %d", maxPack, size))
	}
	data := make([]byte, max(size, 0))
	if n, err := r.ReadAt(data, 0); n < len(data) {
		return nil, fmt.Errorf("evidence: reading the pack: %w", err)
	}
	v := &verification{o: o, report: &PackReport{Checks: []Check{}}}
	if err := v.run(ctx, data); err != nil {
		return nil, err
	}
	v.report.conclude()
	return v.report, nil
}

// verification is one call of VerifyPack.
type verification struct {
	o        VerifyOptions
	report   *PackReport
	manifest manifest
	files    map[string][]byte
	proofs   []entry // of the lines, in the pack's order
	signed   chain.Cosigned
	core     *core
	live     Live
	log      logPart
	material material
	renewed  []renewedLine // what the lines say of renewals, the oldest first
}

// check records the outcome of one check: passed with a text, or failed with an error. It reports whether it passed.
func (v *verification) check(name, passed string, err error) bool {
	c := Check{name, Pass, passed}
	if err != nil {
		c.Result, c.Text = Fail, strings.TrimPrefix(err.Error(), "evidence: ")
	}
	v.report.Checks = append(v.report.Checks, c)
	return err == nil
}

func (v *verification) run(ctx context.Context, data []byte) error {
	if !v.open(data) {
		return nil // what cannot be read cannot be checked
	}
	v.check("document", "document.pdf is the document that the evidence is about", v.document())
	v.check("signature_link", "its signature, its certificate and its time stamps are those that the evidence names", v.signature())
	v.check("chain", "the lines of the log are whole and follow each other", v.log.check())
	v.check("inclusion", "every line is in the tree that the checkpoint names", v.log.included(v.live.Checkpoint))
	v.checkpoint()
	v.cosignatures()
	v.timeStamped()
	v.check("events", "the log says that this document was signed, with this evidence, by this signature", errors.Join(v.events(), v.renewals()))
	v.check("lines", "the lines are exactly those that the evidence names", v.named())
	v.check("status", "the status is what the lines say: "+v.live.Status, v.status())
	v.check("made", "the pack says that it was made after the newest of its lines and cosignatures", v.made())
	v.check("material", "certificates and lists of revoked certificates belong together, and to the signer, whose certificate is: "+v.live.Certificate.Status, v.material.check(v.core, &v.live, v.manifest.CreatedAt))
	return v.judge(ctx)
}

// open reads all parts; when it fails, there is nothing further to check.
func (v *verification) open(data []byte) bool {
	entries, err := decodeArchive(data)
	if !v.check("archive", "the archive has the one form that a pack has", err) {
		return false
	}
	var files []entry
	if v.manifest, files, err = openManifest(entries); !v.check("manifest", "the pack holds exactly the files that its manifest names", err) {
		return false
	}
	v.files = map[string][]byte{}
	for _, f := range files {
		v.files[f.name] = f.data
		if strings.HasSuffix(f.name, proofSuffix) {
			v.proofs = append(v.proofs, f)
		}
	}
	v.core, err = parseCore(v.files[nameCore])
	if err == nil && v.core.Prescription.ID != v.manifest.PrescriptionID {
		err = fmt.Errorf("it is about prescription %q, the manifest about %q", v.core.Prescription.ID, v.manifest.PrescriptionID)
	}
	if !v.check("core", "the evidence fixed at signing is complete and well formed", err) {
		return false
	}
	c, r := v.core, v.report
	r.PrescriptionID, r.Clinician, r.SignedAt = c.Prescription.ID, c.Prescription.ClinicianName, c.Prescription.SignedAt
	r.Activation, r.CreatedAt = c.Activation.Statement, v.manifest.CreatedAt
	var its []byte
	its, v.live, err = CoreOf(v.files[nameSummary])
	if err == nil && string(its) != string(v.files[nameCore]) {
		err = errors.New("the summary is not made from core.json")
	}
	if err == nil && (v.live.Backup != nil || v.live.Delivery != "") {
		err = errors.New("the summary tells of the backup or of the delivery, which nothing in a pack shows")
	}
	if !v.check("summary", "the Evidence Summary is that evidence with the state at the making of the pack", err) {
		return false
	}
	r.Status = v.live.Status
	text, err := readme(v.manifest.Readme, c, &v.live, v.manifest.CreatedAt)
	if err == nil && string(text) != string(v.files[nameReadme]) {
		err = fmt.Errorf("README.txt is not the one that belongs to this pack")
	}
	v.check("readme", "README.txt is the one that belongs to this pack", err)
	return v.check("parts", "certificates, lists, lines and proofs are well formed", v.parts())
}

// parts parses what is neither JSON nor the PDF.
func (v *verification) parts() (err error) {
	if v.material.certs, err = decodeCertificates(v.files[nameCertificates]); err != nil {
		return err
	}
	if v.material.crls, err = decodeCRLs(v.files[nameCRLs]); err != nil {
		return err
	}
	lines, err := decodeLines(v.files[nameLines], v.files[nameCheckpoint], v.proofs)
	if err != nil {
		return err
	}
	key, ok := strings.CutSuffix(string(v.files[nameLogKey]), "\n")
	if !ok || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s is not one line of printable characters", nameLogKey)
	}
	v.report.LogKey = key
	if v.log, err = parseLog(lines); err != nil {
		return err
	}
	return v.readRenewed()
}

// lateness is by how much clocks may differ: the log's when it was set, a cosigner's from the log's.
const lateness = 5 * time.Minute

// made checks when the pack says that it was made. Nobody signed that, but what it holds cannot be from later: whoever passes an earlier list of revoked
// certificates off as current can date the pack back no further.
func (v *verification) made() error {
	at := v.live.GeneratedAt
	if !v.manifest.CreatedAt.Equal(at) {
		return errors.New("the manifest and the summary are of different times")
	}
	for i, l := range v.log.parsed {
		if l.Time.After(at.Add(lateness)) {
			return fmt.Errorf("line %d is from after %s, when the pack says that it was made", v.log.lines[i].Seq, at.UTC().Format(time.RFC3339))
		}
	}
	for _, by := range v.live.Checkpoint.Cosignatures {
		if by.Time.After(at.Add(lateness)) {
			return fmt.Errorf("the cosignature of %s is from after %s, when the pack says that it was made", by.Name, at.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// judge asks for a judgement of the PDF's signatures.
func (v *verification) judge(ctx context.Context) error {
	c := Check{"signature", Unknown, "the PDF's signature was not judged"}
	if v.o.JudgePDF != nil {
		var crls [][]byte
		for _, l := range v.material.crls {
			crls = append(crls, l.Raw)
		}
		j, err := v.o.JudgePDF(ctx, v.files[namePDF], crls)
		if err != nil {
			return err
		}
		c.Result, c.Text, v.report.PDF = j.Result, j.Summary, j.Report
	}
	v.report.Checks = append(v.report.Checks, c)
	return nil
}

// conclude sums the checks up.
func (r *PackReport) conclude() {
	var left []string
	failed, unknown := 0, 0
	for _, c := range r.Checks {
		switch c.Result {
		case Fail:
			failed++
		case Unknown:
			unknown++
		case NotJudged:
			left = append(left, c.Name)
		}
	}
	switch {
	case failed > 0:
		r.Verdict, r.ExitCode = Invalid, 1
		r.Summary = fmt.Sprintf("the pack is not good: %d of %d checks failed", failed, len(r.Checks))
	case unknown > 0:
		r.Verdict, r.ExitCode = CouldNotJudge, 2
		r.Summary = fmt.Sprintf("nothing in the pack is wrong, but %d of %d checks could not be made", unknown, len(r.Checks))
	default:
		r.Verdict = Valid
		r.Summary = fmt.Sprintf("all %d checks passed", len(r.Checks)-len(left))
	}
	if len(left) > 0 {
		r.Summary += "; not judged: " + strings.Join(left, ", ")
	}
}

// Text returns the report for a person.
func (r *PackReport) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Evidence pack: %s\n", label(Result(r.Verdict)))
	fmt.Fprintf(&b, "%s\n", r.Summary)
	if r.PrescriptionID != "" {
		fmt.Fprintf(&b, "\nPrescription  %q, %s\nPrescriber    %q\nSigned        %s\nPack made     %s\nActivation    %s\n",
			r.PrescriptionID, r.Status, r.Clinician, r.SignedAt.Format(time.RFC3339), r.CreatedAt.Format(time.RFC3339), r.Activation)
	}
	b.WriteByte('\n')
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-10s  %-14s  %s\n", label(c.Result), c.Name, c.Text)
	}
	return b.String()
}

func label(r Result) string { return strings.ToUpper(strings.ReplaceAll(string(r), "_", " ")) }
