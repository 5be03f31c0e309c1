package main

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/demorealm"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

// demoHouse is a demo appliance at work: both processes, and the realm that gives tokens.
type demoHouse struct {
	app            *app
	files          demoFiles
	cfg            config.Config
	signer, portal *process
	receiver       *process // the backup host
	backup         wire.BackupStatus
	admin          *wire.Client // the operator's socket
	realm          *demorealm.Realm
	status         wire.Status
	certificates   []wire.Certificate // the valid ones
	clinician      wire.Certificate
	transport      *http.Transport
	client         *http.Client
	url            string
}

// open starts everything. Once a part ends of its own accord, cancel is told why.
func (h *demoHouse) open(ctx context.Context, cancel context.CancelCauseFunc) (err error) {
	watch := func(p *process) {
		go func() {
			select {
			case <-p.ended:
				cancel(p.failure())
			case <-ctx.Done():
			}
		}()
	}
	if h.signer, err = startProcess("signer", h.files.config, h.files.signerLog); err != nil {
		return err
	}
	err = h.signer.await(ctx, func(ctx context.Context) (err error) {
		if h.admin, err = wire.Dial(ctx, h.cfg.Signer.AdminSocket); err == nil {
			err = h.ask(ctx, wire.OpStatus, wire.Nothing{}, &h.status)
		}
		return err
	})
	if err != nil {
		return err
	}
	watch(h.signer)
	if err := h.furnish(ctx, cancel); err != nil {
		return err
	}
	if err := h.openPortal(ctx); err != nil {
		return err
	}
	watch(h.portal)
	if err := h.openBackup(ctx); err != nil {
		return err
	}
	watch(h.receiver)
	return nil
}

// openPortal starts the portal, on other ports when somebody took one between the look for it and the start.
func (h *demoHouse) openPortal(ctx context.Context) (err error) {
	const tries = 5
	for n := 1; ; n++ {
		if h.portal, err = startProcess("portal", h.files.config, h.files.portalLog); err != nil {
			return err
		}
		if err := h.connect(); err != nil {
			return err
		}
		err := h.portal.await(ctx, h.answers)
		if err == nil || n == tries || !strings.Contains(fault.PublicOf(err), "cannot listen") {
			return err
		}
		h.portal = nil // it has ended
		if h.cfg, err = h.app.demoPorts(h.files, h.cfg); err != nil {
			return err
		}
	}
}

func (h *demoHouse) ask(ctx context.Context, op wire.Op, in, out any) error {
	_, err := h.admin.Call(ctx, op, in, out, nil)
	return err
}

// close ends everything, the portal first and the backup host last.
func (h *demoHouse) close() error {
	var errs []error
	if h.transport != nil {
		h.transport.CloseIdleConnections()
	}
	errs = append(errs, h.closeBackup())
	if h.admin != nil {
		errs = append(errs, h.admin.Close())
	}
	for _, p := range []*process{h.portal, h.signer, h.receiver} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if h.realm != nil {
		errs = append(errs, h.realm.Close())
	}
	return errors.Join(errs...)
}

// furnish registers what the booking app needs, over the operator's socket as an operator would: the clinic, its realm, the clinician's certificate.
func (h *demoHouse) furnish(ctx context.Context, cancel context.CancelCauseFunc) error {
	var clinics wire.ClinicPage
	if err := h.ask(ctx, wire.OpClinicList, wire.Nothing{}, &clinics); err != nil {
		return err
	}
	demo := prescription.Demo(time.Now())
	if !slices.ContainsFunc(clinics.Clinics, func(c wire.Clinic) bool { return c.Slug == demoClinic }) {
		p := wire.Policy(activation.DefaultPolicy())
		p.SignaturesPerToken, p.SignaturesPerMinute = 10_000, 10_000 // whoever tries the API out signs more than a clinician does
		if err := h.ask(ctx, wire.OpClinicAdd, wire.Clinic{Slug: demoClinic, Name: demo.ClinicName, Policy: &p}, nil); err != nil {
			return err
		}
	}
	if err := h.openRealm(ctx, cancel); err != nil {
		return err
	}
	if err := h.certify(ctx, demo); err != nil {
		return err
	}
	return h.list(ctx)
}

// openRealm starts the realm, on the port by which it is registered if that can be had, and registers it.
func (h *demoHouse) openRealm(ctx context.Context, cancel context.CancelCauseFunc) error {
	var realms wire.RealmPage
	if err := h.ask(ctx, wire.OpRealmList, wire.Nothing{}, &realms); err != nil {
		return err
	}
	registered, port := "", demoRealmPort
	for _, r := range realms.Realms {
		if r.Clinic != demoClinic {
			continue
		}
		u, err := url.Parse(r.Issuer)
		if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Path != demorealm.Path {
			return fault.New(fault.Conflict, "the demo's clinic has the realm "+r.Issuer+", for which the demo's own cannot stand in").
				WithHint("appliance realm remove " + r.Issuer + " --config " + h.files.config)
		}
		registered = r.Issuer
		if port, err = strconv.Atoi(u.Port()); err != nil {
			return fault.New(fault.Internal, "the demo's realm has no port").WithCause(err)
		}
	}
	l, err := demorealm.Listen(ctx, port)
	if err != nil {
		if l, err = demorealm.Listen(ctx, 0); err != nil {
			return fault.New(fault.Unavailable, "the demo's realm cannot listen on loopback"+reason(err)).WithCause(err)
		}
	}
	key, err := h.realmKey()
	if err == nil {
		h.realm, err = demorealm.New(l, key, time.Now)
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	go func() {
		if err := h.realm.Serve(); err != nil {
			cancel(fault.New(fault.Unavailable, "the demo's realm ended"+reason(err)).WithCause(err))
		}
	}()
	if registered == h.realm.Issuer() {
		return nil
	}
	if registered != "" {
		if err := h.ask(ctx, wire.OpRealmRemove, wire.RealmRef{Issuer: registered}, nil); err != nil {
			return err
		}
	}
	return h.ask(ctx, wire.OpRealmAdd, wire.Realm{Issuer: h.realm.Issuer(), Clinic: demoClinic}, nil)
}

// realmKey reads the realm's key, or makes one.
func (h *demoHouse) realmKey() (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(h.files.realmKey)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := demorealm.NewKey()
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, durable.WriteFile(durable.OS{}, h.files.realmKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		return nil, unreadable(h.files.realmKey, err)
	}
	if block, _ := pem.Decode(text); block != nil {
		if any, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := any.(*rsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fault.New(fault.Corrupt, h.files.realmKey+" holds no RSA key").WithHint("remove it: the demo makes another")
}

// certify finds the clinician's certificate, or has one issued, bound to whom the realm knows by the name.
func (h *demoHouse) certify(ctx context.Context, demo prescription.Prescription) error {
	var page wire.CertPage
	if err := h.ask(ctx, wire.OpCertList, wire.CertListRequest{Clinic: demoClinic, CertType: string(cert.Clinician), Status: "valid", Limit: 1000}, &page); err != nil {
		return err
	}
	for _, c := range page.Certificates {
		if c.CommonName == demo.ClinicianCN {
			h.clinician = c
		}
	}
	switch {
	case h.clinician.Serial == "":
		var made wire.CertIssued
		err := h.ask(ctx, wire.OpCertIssue, wire.CertIssue{
			CertType: string(cert.Clinician), CommonName: demo.ClinicianCN, Org: demo.ClinicName, Country: "GB", Clinic: demoClinic, Sub: demorealm.DoctorSub,
			Register: string(demo.ProfessionalRegister), RegistrationNumber: demo.ProfessionalRegistrationNumber,
		}, &made)
		h.clinician = made.Certificate
		return err
	case h.clinician.Sub == "": // of a demo that knew no realm
		return h.ask(ctx, wire.OpCertBind, wire.CertBind{Serial: h.clinician.Serial, Sub: demorealm.DoctorSub}, &h.clinician)
	}
	return nil
}

// list reads the valid certificates.
func (h *demoHouse) list(ctx context.Context) error {
	for in := (wire.CertListRequest{Status: "valid", Limit: 1000}); ; {
		var page wire.CertPage
		if err := h.ask(ctx, wire.OpCertList, in, &page); err != nil {
			return err
		}
		h.certificates = append(h.certificates, page.Certificates...)
		if in.Cursor = page.Next; in.Cursor == "" {
			return nil
		}
	}
}

// connect makes the client that trusts the appliance's root and nothing else.
func (h *demoHouse) connect() error {
	root, err := x509.ParseCertificate(h.status.Root)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(h.cfg.Portal.Listen)
	if err != nil {
		return err
	}
	if len(h.cfg.Portal.Hosts) == 0 {
		return fault.New(fault.Invalid, "the demo's configuration gives the portal no name").WithHint("set portal.hosts in " + h.files.config)
	}
	h.url = "https://" + net.JoinHostPort(h.cfg.Portal.Hosts[0], port)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	h.transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	h.client = &http.Client{Transport: h.transport, Timeout: time.Minute}
	return nil
}

// answers says whether the portal does.
func (h *demoHouse) answers(ctx context.Context) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/healthz", nil)
	if err != nil {
		return err
	}
	got, err := h.client.Do(q)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusOK {
		return errors.New(got.Status)
	}
	return nil
}

// token is a fresh one, of the doctor whom the certificate is bound to unless form says otherwise.
func (h *demoHouse) token(form url.Values) (string, error) {
	if !form.Has("person") && !form.Has("sub") {
		form.Set("sub", h.clinician.Sub)
	}
	token, _, err := h.realm.Token(form)
	return token, err
}

func (h *demoHouse) introduce(w io.Writer) {
	fmt.Fprintf(w, "  %-18s process %d: keys, log, no network\n", "appliance signer", h.signer.cmd.Process.Pid)
	fmt.Fprintf(w, "  %-18s process %d: %s\n", "appliance portal", h.portal.cmd.Process.Pid, h.url)
	fmt.Fprintf(w, "  %-18s process %d: the backup host, which cosigns the log: %s\n", "appliance receiver", h.receiver.cmd.Process.Pid, h.backup.Address)
	fmt.Fprintf(w, "  %-18s %s, for this demo only\n\n", "realm", h.realm.Issuer())
}
