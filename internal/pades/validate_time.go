package pades

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// proof is a valid document time stamp: everything up to the end of its revision existed at time.
type proof struct {
	revision int
	time     time.Time
	by       string
}

// provenAt returns the oldest time at which what revision r ends with is known to have existed, and by what. Past validation goes from the
// newest time stamp to the oldest, so the last proof that covers r is the oldest.
func (v *validation) provenAt(r int) (time.Time, *proof) {
	at := v.at
	var by *proof
	for i := range v.past {
		if p := &v.past[i]; p.revision > r && p.time.Before(at) {
			at, by = p.time, p
		}
	}
	return at, by
}

// judgeTimeStamps judges the document time stamps, newest first: each that passes proves that what it covers existed, which lets the next
// older one be judged then. EN 319 102-1 §5.6.3.4 step 4.
func (v *validation) judgeTimeStamps() {
	for i := len(v.items) - 1; i >= 0; i-- {
		it := v.items[i]
		if it.report.Kind != KindTimeStamp || it.token == nil {
			continue
		}
		it.token.retry(v.trust)
		proven, _ := v.provenAt(it.sig.Revision)
		v.judgeToken(it.token, proven, it.sig.Revision)
		it.path = it.token.path
		if it.failure == nil && it.token.failure == nil {
			t := it.token.info.GenTime
			v.past = append(v.past, proof{it.sig.Revision, earlier(t, proven), fmt.Sprintf("the document time stamp %q by %s", it.sig.Field, name(it.token.cert))})
			v.revocations.vouch(it.sig.Revision, earlier(t, proven))
		}
		it.report.TimeStamps = []TimeStampReport{it.token.report()}
		if it.token.cert != nil {
			it.report.Signer = newSigner(it.token.cert)
		}
		if it.token.failure != nil && (it.failure == nil || it.digest != nil) {
			it.fail(it.token.failure)
		}
	}
}

// judgeToken judges one token that is known to have existed at proven. revision is the one whose DSS it covers, -1 for a signature time stamp.
func (v *validation) judgeToken(t *token, proven time.Time, revision int) {
	t.provenAt = proven
	if t.failure == nil && t.cert == nil {
		t.failure = indeterminate(SigConstraintsFailure, "the time stamp was not verified, for the reasons above")
	}
	if t.failure != nil {
		return
	}
	limit := proven.Add(t.info.Accuracy)
	if proven.Equal(v.at) {
		limit = limit.Add(clockSkew)
	}
	u := use{claimed: t.info.GenTime, proven: proven, revision: revision}
	t.path, t.status, t.failure = v.trusted(t.cert, u, toStamp, whatTimeStamp)
	if t.failure == nil && t.info.GenTime.After(limit) {
		t.failure = indeterminate(TimestampOrderFailure, "the time stamp says %s, but it is known to have existed at %s", stamp3339(t.info.GenTime), stamp3339(proven))
	}
	if t.failure == nil && t.info.GenTime.Before(t.cert.NotBefore) {
		t.failure = failed(NotYetValid, "the time stamp says %s, before its authority's certificate was valid", stamp3339(t.info.GenTime))
	}
}

// trusted builds the path of c and judges it for one use: validity, usage, revocation of every certificate but the anchor. It returns the
// path also when it fails, as far as there is one.
func (v *validation) trusted(c *x509.Certificate, u use, for_ purpose, what string) (path, []*status, *failure) {
	p, problem := v.trust.best(c, u.proven, what)
	if p == nil {
		return nil, nil, problem
	}
	if problem == nil {
		problem = p.checkUsage(for_, what)
	}
	statuses := make([]*status, len(p))
	for i := 0; i < len(p)-1; i++ {
		s, f := v.revocations.judge(p[i], p[i+1], u, what)
		statuses[i] = s
		if problem == nil {
			problem = f
		}
	}
	return p, statuses, problem
}

// judgeSignature finds the best signature time and judges the signer's certificate then. EN 319 102-1 §5.5, §5.6.
func (v *validation) judgeSignature(it *item) {
	known, by := v.provenAt(it.sig.Revision)
	best := known
	if by != nil {
		it.report.ProvenBy = by.by
	}
	for _, t := range it.stamps {
		t.retry(v.trust)
		v.judgeToken(t, known, -1)
		it.report.TimeStamps = append(it.report.TimeStamps, t.report())
		switch {
		case t.failure != nil:
			it.warn("a signature time stamp proves nothing: %s", t.failure.text)
		case !t.info.GenTime.After(best):
			best = t.info.GenTime
			it.report.ProvenBy = "a signature time stamp by " + name(t.cert)
		}
	}
	if it.report.ProvenBy != "" {
		proven := best.UTC()
		it.report.ProvenTime = &proven
	}
	v.checkClaim(it, best)
	if it.cert != nil {
		p, statuses, problem := v.trusted(it.cert, use{claimed: best, proven: best, revision: -1}, toSign, whatSignature)
		it.path = p
		it.report.Certificates = certificateReports(p, statuses)
		if problem != nil {
			it.fail(problem)
		}
		v.warnInvalidity(it, statuses, best)
	}
	v.level(it)
}

// checkClaim compares the signer's word for the time with what is proven.
func (v *validation) checkClaim(it *item, best time.Time) {
	m := it.report.ClaimedTime
	switch {
	case it.report.ProvenTime == nil && m != nil:
		it.warn("the time of signing is only claimed, nothing proves it")
	case m == nil || it.report.ProvenTime == nil:
	case m.After(best.Add(clockSkew)):
		it.warn("the claimed time of signing, %s, is later than the proven one, %s", stamp3339(*m), stamp3339(best))
	case best.Sub(*m) > 24*time.Hour:
		it.warn("the claimed time of signing, %s, is more than a day before the proven one, %s", stamp3339(*m), stamp3339(best))
	}
}

// warnInvalidity names a key that a CRL says was bad before the proven time, though it was revoked only later (RFC 5280 §5.3.2).
func (v *validation) warnInvalidity(it *item, statuses []*status, best time.Time) {
	for _, s := range statuses {
		if s != nil && s.revoked && !s.invalidSince.IsZero() && !best.Before(s.invalidSince) {
			it.warn("a certificate was revoked later, and its key is suspected since %s, before the proven time", stamp3339(s.invalidSince))
		}
	}
}

// level says how far up the form and the material of a signature reach, whether it passed or not. EN 319 142-1 §6.3: T needs a proof of
// time, LT the material of all paths in the DSS, LTA a document time stamp over it.
func (v *validation) level(it *item) {
	r := &it.report
	note := func(s string) { r.LevelNotes = append(r.LevelNotes, s) }
	if it.cert == nil {
		return
	}
	if len(it.baseline) > 0 {
		r.LevelNotes = it.baseline
		return
	}
	r.Level = LevelB
	var tokens []*token
	for _, t := range it.stamps {
		if t.sound() {
			tokens = append(tokens, t)
		}
	}
	covering := v.coveringTimeStamps(it.sig.Revision)
	if len(tokens) == 0 && len(covering) == 0 {
		note("no time stamp")
		return
	}
	r.Level = LevelT
	paths := []path{it.path}
	for _, t := range tokens {
		paths = append(paths, t.path)
	}
	if missing := v.missing(paths, len(v.revisions)-1); missing != "" {
		note(missing)
		return
	}
	r.Level = LevelLT
	for _, revision := range covering {
		if v.missing(paths, revision) == "" {
			r.Level = LevelLTA
			return
		}
	}
	note("no document time stamp covers the validation data")
}

// coveringTimeStamps returns the revisions of sound document time stamps after revision r.
func (v *validation) coveringTimeStamps(r int) []int {
	var list []int
	for _, it := range v.items {
		if it.report.Kind == KindTimeStamp && it.sig.Revision > r && it.token != nil && it.token.sound() && it.sig.Problem == nil {
			list = append(list, it.sig.Revision)
		}
	}
	return list
}

// missing says what the DSS of a revision lacks for paths, "" when it holds a status of every certificate but the anchors.
func (v *validation) missing(paths []path, revision int) string {
	for _, p := range paths {
		if p == nil {
			return "a certificate path is incomplete"
		}
		for i := 0; i < len(p)-1; i++ {
			if !v.revocations.known(p[i], p[i+1], revision) {
				return fmt.Sprintf("no revocation status of the certificate of %q in the document security store", name(p[i]))
			}
		}
	}
	return ""
}

// checkEarly says when the file is judged at a time before the signature was made, by its own words: then its certificates and proofs are
// not there yet. That comes before the other reasons, unless one of them is a failure that no time cures.
func (v *validation) checkEarly(it *item) {
	made := it.report.ClaimedTime
	for _, t := range it.stamps {
		if made == nil && t.sound() {
			made = &t.info.GenTime
		}
	}
	if made == nil || !made.After(v.at.Add(clockSkew)) {
		return
	}
	text := fmt.Sprintf("judged at a time before the signature was made: at %s, and it says %s", stamp3339(v.at), stamp3339(*made))
	if it.failure == nil || it.failure.indication == TotalFailed && it.failure.sub != NotYetValid {
		it.warn("%s", text)
		return
	}
	it.report.Reasons = slices.Insert(it.report.Reasons, 0, text)
}

// conclude draws the indication from what was found.
func (it *item) conclude() {
	if it.report.Modified {
		// ISO 32000-2 §12.8.1: what a signature says holds for its own revision. The document that is shown is another one.
		f := failed(FormatFailure, "%s", it.report.modification().modified())
		it.fail(f)
		if it.failure.indication == Indeterminate {
			it.failure = f
		}
	}
	it.report.Indication = TotalPassed
	if it.failure != nil {
		it.report.Indication, it.report.SubIndication = it.failure.indication, it.failure.sub
		return
	}
	if it.report.Signer == nil {
		panic("pades: a signature passed without a signer") // every way to a certificate that fails sets failure
	}
}

func certificateReports(p path, statuses []*status) []CertificateReport {
	var list []CertificateReport
	for i, c := range p {
		r := CertificateReport{Subject: distinguishedName(c.RawSubject), Serial: serialText(c.SerialNumber), SHA256: fingerprint(c),
			NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Anchor: i == len(p)-1}
		if i < len(statuses) && statuses[i] != nil {
			r.Status = statuses[i].report()
		}
		list = append(list, r)
	}
	return list
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
