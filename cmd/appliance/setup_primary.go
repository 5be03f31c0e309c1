package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/setup"
	"github.com/veripath/aes-appliance/internal/signer"
)

// The users of the services, and the credentials that setup makes for them.
const (
	signerUser   = "aes-signer"
	receiverUser = "aes-receiver"
	primaryUnit  = "aes-appliance.target"
	signerUnit   = "aes-signer.service"
	portalUnit   = "aes-portal.service"
	receiverUnit = "aes-receiver.service"
	doctorUnit   = "aes-doctor.service"
)

func pinCredential() setup.Credential {
	return setup.Credential{Name: "token-pin", File: "aes-signer.token-pin"}
}

func tlsKeyCredential() setup.Credential {
	return setup.Credential{Name: "tls-key", File: "aes-portal.tls-key"}
}

// primarySteps are what makes a primary, in their order.
func (r *setupRun) primarySteps() []setup.Step {
	steps := []setup.Step{
		{Name: "answers", Run: r.keepAnswers},
		{Name: "configuration", Run: r.keepPrimaryConfiguration},
		{Name: "PIN", Run: r.makePIN},
		{Name: "key ceremony", Run: r.holdCeremonyStep},
	}
	if r.answers.Config.Portal.TLS == config.TLSFiles {
		steps = append(steps, setup.Step{Name: "TLS key", Run: r.keepTLSKey})
	}
	if s := r.answers.Config.Setup; s.Webhook != "" || s.MailPassword != "" {
		steps = append(steps, setup.Step{Name: "alarm's secrets", Run: r.keepAlarmSecrets})
	}
	steps = append(steps, setup.Step{Name: "services", Run: r.startPrimary})
	return append(steps, r.registrationSteps()...)
}

// keepPrimaryConfiguration writes and reads the configuration.
func (r *setupRun) keepPrimaryConfiguration(ctx context.Context) (said string, err error) {
	if r.fixed == nil {
		r.fixed = map[string]any{}
	}
	if addresses := r.backupAddresses(ctx); addresses != "" {
		r.fixed["firewall.backup"] = addresses
		if private := privateOf(addresses); private != "" && r.answers.Value("portal.private_networks") == "" {
			r.fixed["portal.private_networks"] = private
		}
	}
	if said, err = r.keepConfiguration(ctx); err != nil {
		return "", err
	}
	r.configPath = r.host.Path(config.Path)
	r.cfg, err = config.Load(r.configPath)
	return said, err
}

// founded reports whether the appliance is in its place.
func (r *setupRun) founded() bool {
	_, err := os.Lstat(filepath.Join(r.cfg.StateDir, ledger.FileName))
	return err == nil
}

// makePIN makes the token's PIN, for systemd to hand to the signer.
func (r *setupRun) makePIN(ctx context.Context) (string, error) {
	c := pinCredential()
	if r.host.Has(c.Path()) {
		return r.host.Path(c.Path()) + ", there already", nil
	}
	if r.founded() {
		return "", noPINLeft(r.host.Path(c.Path()))
	}
	pin, err := signer.NewPIN()
	if err != nil {
		return "", err
	}
	defer clear(pin)
	if err := r.host.Encrypt(ctx, c, pin); err != nil {
		return "", err
	}
	return "made, and encrypted to this machine by " + r.host.Keeper(c) + ":\n" + r.host.Path(c.Path()), nil
}

func noPINLeft(path string) error {
	return fault.New(fault.Conflict, "there is an appliance here, and its token's PIN is not in "+path).
		WithHint("nothing is made anew over keys that are there: bring the PIN back from the token's backup (docs/operations.md)")
}

// holdCeremonyStep founds the appliance: ceremony, what belongs off the machine, and only then the state in its place.
func (r *setupRun) holdCeremonyStep(ctx context.Context) (string, error) {
	if r.founded() {
		said, err := r.rootSaid()
		return said, errors.Join(err, os.RemoveAll(r.host.Path(setupFound)))
	}
	pin, err := r.host.Decrypt(ctx, pinCredential())
	if err != nil {
		return "", err
	}
	defer clear(pin)
	as, err := r.host.User(signerUser)
	if err != nil {
		return "", err
	}
	if err := r.host.Folder(setupFound, 0o700, as); err != nil {
		return "", err
	}
	request := foundRequest{PIN: pin, Demo: r.answers.Config.Setup.Demo, Recipients: r.rootRecipients()}
	if file := r.answers.Config.Setup.RootIdentity; file != "" {
		if request.Identity, err = os.ReadFile(file); err != nil {
			return "", unreadable(file, err)
		}
		defer clear(request.Identity)
	}
	answer, err := r.runFound(ctx, as, r.host.Path(setupFound), request)
	if err != nil {
		return "", err
	}
	if err := r.carryCeremony(answer); err != nil {
		return "", err
	}
	// Everything of the ceremony is durable off the founding folder. A crash before this rename goes through the above again, over the same ceremony; one after it finds a founded appliance.
	return r.settle()
}

// settle moves what was founded to its place. The folder is the signer's user's, and was made by it: root changes nothing in or of it, or links in there would lead elsewhere.
func (r *setupRun) settle() (string, error) {
	from := r.host.Path(setupFound)
	if err := os.Rename(filepath.Join(from, foundState), r.cfg.StateDir); err != nil {
		return "", fault.New(fault.Unavailable, "cannot move the founded appliance to "+r.cfg.StateDir+reason(err)).WithCause(err).
			WithHint("that folder must be empty or not there, and on the same file system as " + from)
	}
	// In its place nobody but root can exchange it any more.
	if info, err := os.Lstat(r.cfg.StateDir); err != nil || !info.IsDir() {
		return "", errors.Join(fault.New(fault.Forbidden, "what was founded is no folder: somebody tampers with "+from).WithHint("find out who has the user "+signerUser+" before anything else"), os.Remove(r.cfg.StateDir))
	}
	if err := (durable.OS{}).SyncDir(filepath.Dir(r.cfg.StateDir)); err != nil {
		return "", err
	}
	if err := os.RemoveAll(from); err != nil {
		return "", fault.New(fault.Unavailable, "cannot remove "+from+reason(err)).WithCause(err)
	}
	return r.rootSaid()
}

func (r *setupRun) rootRecipients() []string {
	if own := r.answers.Config.Setup.RootRecipients; len(own) > 0 {
		return own
	}
	return r.answers.Config.Token.BackupRecipients
}

// rootSaid shows the root certificate's SHA-256 as it is to be read aloud.
func (r *setupRun) rootSaid() (string, error) {
	file := filepath.Join(r.cfg.StateDir, signer.RootPEMName)
	roots, err := readCertificates(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(roots[0].Raw)
	r.remind()
	return roots[0].Subject.CommonName + ", SHA-256 of its certificate:\n" + setup.Speak(sum[:]), nil
}

// remind says what is still on this machine and belongs off it.
func (r *setupRun) remind() {
	if left, err := os.ReadDir(r.host.Path(setupCarry)); err == nil && len(left) > 0 {
		r.last = append(r.last, "Copy "+r.host.Path(setupCarry)+" to two media, compare the SHA-256 of the root-….age there with the transcript's, then remove the folder\nhere. Print the transcript and sign it.")
	}
}

// carryCeremony puts the sealed root, the transcript and the public keys where they are carried off from.
func (r *setupRun) carryCeremony(f foundAnswer) error {
	root, err := x509.ParseCertificate(f.Held.Answer.Ceremony.Root)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(root.Raw)
	name := fmt.Sprintf("root-%x.age", sum[:4])
	t, err := r.transcript(f, root, name)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		name string
		data []byte
	}{
		{name, f.Held.Answer.Sealed}, {fmt.Sprintf("ceremony-%x.txt", sum[:4]), t.Text()},
		{signer.RootPEMName, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})}, {signer.LogKeyName, []byte(f.LogKey + "\n")},
	} {
		if _, err := r.carry(one.name, one.data); err != nil {
			return err
		}
	}
	return nil
}

func (r *setupRun) transcript(f foundAnswer, root *x509.Certificate, sealed string) (t setup.Transcript, err error) {
	told := r.answers.Config
	t = setup.Transcript{
		Organisation: told.PKI.Organisation, At: f.Held.At, Clock: f.Held.Clock, LedBy: told.Setup.LedBy, Witnesses: told.Setup.Witnesses,
		Version: version, Root: root, LogKey: f.LogKey, Lines: f.Lines, Head: f.Head, Sealed: f.Held.Answer.Sealed, SealedName: sealed,
		Recipients: f.Held.Recipients, Opened: f.Held.Opened, Swap: f.Held.Swap, Demo: f.Held.Demo,
	}
	if t.Host, err = os.Hostname(); err != nil {
		return t, err
	}
	program, err := os.Executable()
	if err != nil {
		return t, err
	}
	if t.Program, err = sumFile(program); err != nil {
		return t, err
	}
	for _, kind := range cert.IssuingCAs() {
		crt, err := x509.ParseCertificate(f.Held.Answer.Ceremony.Certificates[kind])
		if err != nil {
			return t, err
		}
		t.Authorities = append(t.Authorities, setup.Authority{Kind: string(kind), Certificate: crt})
	}
	return t, nil
}

// keepTLSKey hands the key of the operator's own TLS certificate to the portal's service.
func (r *setupRun) keepTLSKey(ctx context.Context) (string, error) {
	return r.keepSecret(ctx, portalUnit, tlsKeyCredential(), r.answers.Config.Setup.TLSKey)
}

// keepSecret encrypts what a file holds for a service, unless that was done.
func (r *setupRun) keepSecret(ctx context.Context, unit string, c setup.Credential, file string) (string, error) {
	if !r.host.Has(c.Path()) {
		secret, err := os.ReadFile(file)
		if err != nil {
			return "", unreadable(file, err)
		}
		defer clear(secret)
		if err := r.host.Encrypt(ctx, c, secret); err != nil {
			return "", err
		}
	}
	if _, err := os.Lstat(file); err == nil {
		r.last = append(r.last, "Remove "+file+": the service has it encrypted, in "+r.host.Path(c.Path())+".")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", unreadable(file, err)
	}
	return r.host.Path(c.Path()), r.host.Give(unit, c)
}

// sumFile is the SHA-256 of a file.
func sumFile(path string) (sum [32]byte, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return sum, unreadable(path, err)
	}
	return sha256.Sum256(data), nil
}
