package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/objects"
	"github.com/veripath/aes-appliance/internal/setup"
	"github.com/veripath/aes-appliance/internal/wire"
)

// startWait is how long the services may take until they answer, at their first start.
const startWait = 2 * time.Minute

// ask asks the running signer, never the appliance itself: root must not open it, for what it would write would be root's.
func (r *setupRun) ask(ctx context.Context, op wire.Op, in, out any) error {
	c, err := wire.Dial(ctx, r.cfg.Signer.AdminSocket)
	if err != nil {
		return fault.New(fault.Unavailable, "the signer does not answer on "+r.cfg.Signer.AdminSocket).WithCause(err).WithHint("journalctl -u aes-signer shows why")
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err = c.Call(ctx, op, in, out, nil)
	return err
}

// await asks again and again until done says so, and returns the last error of those that it gave up with.
func await(ctx context.Context, most time.Duration, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// startPrimary has systemd start the services, and waits until the signer signs and the portal answers.
func (r *setupRun) startPrimary(ctx context.Context) (string, error) {
	if err := r.enable(ctx, primaryUnit); err != nil {
		return "", err
	}
	var st wire.Status
	if err := await(ctx, startWait, func(ctx context.Context) error { return r.ask(ctx, wire.OpStatus, wire.Nothing{}, &st) }); err != nil {
		return "", err
	}
	said := "running, and at every boot"
	if !st.Ready && len(st.Reasons) > 0 {
		said += "\nnothing is signed yet: " + strings.Join(st.Reasons, "; ")
	}
	active := func(ctx context.Context) error {
		_, err := r.host.Run(ctx, nil, "systemctl", "is-active", "--quiet", portalUnit)
		return err
	}
	if err := await(ctx, startWait, active); err != nil {
		said += "\nthe portal is not ready yet"
		r.last = append(r.last, "See why the portal is not ready: journalctl -u "+portalUnit+" (with tls = \"acme\" its name must lead here, and port 80 be open).")
	}
	return said, ctx.Err()
}

// carryTokenBackup puts the backup of the token that the signer has made where it is carried off from.
func (r *setupRun) carryTokenBackup(ctx context.Context) (string, error) {
	var st wire.BackupStatus
	if err := r.ask(ctx, wire.OpBackupStatus, wire.Nothing{}, &st); err != nil {
		return "", err
	}
	id := st.Token
	if id == "" || st.TokenDue {
		var made wire.TokenBackup
		if err := r.ask(ctx, wire.OpTokenBackup, wire.Nothing{}, &made); err != nil {
			return "", err
		}
		id = made.Object
	}
	if !r.host.Has(setupCarry) {
		return "made; what was in " + r.host.Path(setupCarry) + " has been carried off", nil
	}
	sealed, err := r.object(id)
	if err != nil {
		return "", err
	}
	file, err := r.carry(fmt.Sprintf("token-%s.age", id[:8]), sealed)
	if err != nil {
		return "", err
	}
	older, err := filepath.Glob(filepath.Join(filepath.Dir(file), "token-*.age"))
	for _, one := range older {
		if one != file {
			err = errors.Join(err, os.Remove(one))
		}
	}
	return file, err
}

// object reads a sealed object of the state. That folder is the signer's user's: what lies there is taken for what its name says, or not at all.
func (r *setupRun) object(id string) ([]byte, error) {
	if sum, err := hex.DecodeString(id); err != nil || len(sum) != sha256.Size {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("the signer names its token's backup %.80q, which is no object", id)).WithHint("journalctl -u aes-signer")
	}
	data, err := durable.ReadFile(durable.OS{}, filepath.Join(r.cfg.StateDir, "objects", objects.Place(id)), maxInput)
	if err != nil {
		return nil, unreadable("the token's backup", err)
	}
	if fmt.Sprintf("%x", sha256.Sum256(data)) != id {
		return nil, fault.New(fault.Corrupt, "the token's backup is not what its name says").WithHint("appliance backup token makes another; then run setup again")
	}
	return data, nil
}

// registrationSteps are the clinic, its realm, its first clinician, the firewall and the backup host, as far as they were answered, and the backup of the token.
func (r *setupRun) registrationSteps() (steps []setup.Step) {
	s := r.answers.Config.Setup
	if s.Clinic != "" {
		steps = append(steps, setup.Step{Name: "clinic", Run: r.addClinic})
	}
	if s.Issuer != "" {
		steps = append(steps, setup.Step{Name: "realm", Run: r.addRealm})
	}
	if s.Clinician != "" {
		steps = append(steps, setup.Step{Name: "clinician", Run: r.addClinician})
	}
	steps = append(append(steps, r.machineSteps()...), setup.Step{Name: "alarm", Run: r.callHelp})
	if s.BackupHost != "" {
		steps = append(steps, setup.Step{Name: "backup host", Run: r.enrolBackup})
	}
	// Last: a join code is a key of the token's more.
	return append(steps, setup.Step{Name: "token's backup", Run: r.carryTokenBackup})
}

func (r *setupRun) addClinic(ctx context.Context) (string, error) {
	s := r.answers.Config.Setup
	var page wire.ClinicPage
	if err := r.ask(ctx, wire.OpClinicList, wire.Nothing{}, &page); err != nil {
		return "", err
	}
	if slices.ContainsFunc(page.Clinics, func(c wire.Clinic) bool { return c.Slug == s.Clinic }) {
		return s.Clinic + ", there already", nil
	}
	p := wire.Policy(activation.DefaultPolicy())
	if len(s.ACR) > 0 {
		p.ACRValues = s.ACR
	}
	if len(s.Audiences) > 0 {
		p.Audiences = s.Audiences
	}
	return s.Clinic + ", " + s.ClinicName, r.ask(ctx, wire.OpClinicAdd, wire.Clinic{Slug: s.Clinic, Name: s.ClinicName, Policy: &p}, nil)
}

func (r *setupRun) addRealm(ctx context.Context) (string, error) {
	s := r.answers.Config.Setup
	var page wire.RealmPage
	if err := r.ask(ctx, wire.OpRealmList, wire.Nothing{}, &page); err != nil {
		return "", err
	}
	for _, one := range page.Realms {
		if one.Issuer == s.Issuer && one.Clinic != s.Clinic {
			return "", fault.New(fault.Conflict, "the realm "+s.Issuer+" is registered for the clinic "+one.Clinic).WithHint("correct the answers, or: appliance realm remove " + s.Issuer)
		}
		if one.Issuer == s.Issuer {
			return s.Issuer + ", there already", nil
		}
	}
	in := wire.Realm{Issuer: s.Issuer, Clinic: s.Clinic}
	if s.IssuerCA != "" {
		text, err := os.ReadFile(s.IssuerCA)
		if err != nil {
			return "", unreadable(s.IssuerCA, err)
		}
		in.CA = string(text)
	}
	return s.Issuer, r.ask(ctx, wire.OpRealmAdd, in, nil)
}

// issueWait is how long a certificate of the same name that is just being issued is waited for: a setup that was killed had asked for it.
const issueWait = 10 * time.Second

func (r *setupRun) addClinician(ctx context.Context) (string, error) {
	s := r.answers.Config.Setup
	for end := time.Now().Add(issueWait); ; rest(ctx, settlePause/10) {
		said, err := r.clinician(ctx)
		if said != "" || err != nil {
			return said, err
		}
		var made wire.CertIssued
		err = r.ask(ctx, wire.OpCertIssue, wire.CertIssue{
			CertType: string(cert.Clinician), CommonName: s.Clinician, Org: s.ClinicName, Country: r.cfg.PKI.Country, Clinic: s.Clinic, Sub: s.Sub,
			Register: s.Register, RegistrationNumber: s.Number,
		}, &made)
		if fault.KindOf(err) == fault.Conflict && time.Now().Before(end) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return "", err
		}
		c := made.Certificate
		return fmt.Sprintf("%s, until %s, bound to %s\nserial %s", c.CommonName, c.NotAfter.Format(time.DateOnly), s.Sub, c.Serial), nil
	}
}

// clinician says what certificate the first clinician has; "" for none.
func (r *setupRun) clinician(ctx context.Context) (string, error) {
	s := r.answers.Config.Setup
	for in := (wire.CertListRequest{CertType: string(cert.Clinician), Clinic: s.Clinic, Limit: 1000}); ; {
		var page wire.CertPage
		if err := r.ask(ctx, wire.OpCertList, in, &page); err != nil {
			return "", err
		}
		for _, c := range page.Certificates {
			if c.CommonName == s.Clinician { // whatever became of it: what was revoked is not issued again by running setup again
				return fmt.Sprintf("%s, there already: %s, %s", s.Clinician, c.Serial, c.Status), nil
			}
		}
		if in.Cursor = page.Next; in.Cursor == "" {
			return "", nil
		}
	}
}

// backupAddresses are those of the backup host with its port, for the packet filter; "" when there are none.
func (r *setupRun) backupAddresses(ctx context.Context) string {
	to := r.answers.Config.Setup.BackupHost
	if to == "" || len(r.answers.Config.Firewall.Backup) > 0 {
		return ""
	}
	host, port, err := net.SplitHostPort(backup.WithPort(to))
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return ""
	}
	var list []string
	for _, a := range found {
		one := net.JoinHostPort(a.Unmap().WithZone("").String(), port)
		if ap, err := netip.ParseAddrPort(one); err == nil && !slices.Contains(list, ap.String()) {
			list = append(list, ap.String())
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// privateOf returns those of addresses with ports that are on private networks, as networks of one: names lead there only when the configuration says so.
func privateOf(addresses string) string {
	var list []string
	for one := range strings.FieldsSeq(addresses) {
		if ap, err := netip.ParseAddrPort(one); err == nil && ap.Addr().IsPrivate() {
			list = append(list, netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen()).String())
		}
	}
	return strings.Join(list, " ")
}

// enrolBackup gives out a join code, and waits for the host as long as the answers say. A code is never written down here: another run gives out another.
func (r *setupRun) enrolBackup(ctx context.Context) (string, error) {
	s := r.answers.Config.Setup
	var st wire.BackupStatus
	if err := r.ask(ctx, wire.OpBackupStatus, wire.Nothing{}, &st); err != nil {
		return "", err
	}
	if st.Address != "" && st.DisabledAt.IsZero() {
		return st.Address + ", enrolled already: " + st.State, nil
	}
	var o wire.BackupOffer
	if err := r.ask(ctx, wire.OpBackupEnrol, wire.BackupEnrol{Address: s.BackupHost}, &o); err != nil {
		return "", err
	}
	fmt.Fprintf(r.stdout, "%s, with this code until %s:\n%s\n%s", o.Address, o.Expires.Format("15:04 MST"), o.Code, setup.Indent("\n"))
	if s.BackupWait == 0 {
		r.last = append(r.last, "On "+s.BackupHost+", within 30 minutes: appliance setup --role backup, with the code above.\nThen here: appliance backup status --wait 5m")
		return "it joins with that code", setup.ErrLater
	}
	fmt.Fprintf(r.stdout, "on that host: appliance setup --role backup. Waiting %v … ", s.BackupWait)
	caught := func(ctx context.Context) error {
		if err := r.ask(ctx, wire.OpBackupStatus, wire.Nothing{}, &st); err != nil {
			return err
		}
		if settled := st.State == string(backup.Sync) || st.State == string(backup.Async); !settled || !st.Cosigned {
			return errors.New("not yet")
		}
		return nil
	}
	if err := await(ctx, s.BackupWait, caught); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		r.last = append(r.last, "Enrol the backup host: appliance backup enrol --to "+s.BackupHost)
		return "it has not joined and caught up", setup.ErrLater
	}
	return "it has joined, and cosigned " + fmt.Sprint(st.Lines) + " lines", nil
}
