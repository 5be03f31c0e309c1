package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/replica"
	"github.com/veripath/aes-appliance/internal/witness"
)

// Files of a witness, in its folder below the backup host's state. Its key is its own: what the host signs as a mirror says more than what a witness says.
const (
	witnessDir       = "witness"
	witnessKeyFile   = "key.pem"
	witnessKeyPublic = "witness-key.txt" // the verifier key, for policies
)

// openWitness listens for logs that are to be watched; nil when the configuration names none.
func openWitness(cfg config.Receiver, caller *alarm.Caller, log *slog.Logger) (*http.Server, net.Listener, error) {
	w := cfg.Witness
	if w.Listen == "" {
		return nil, nil, nil
	}
	dir := filepath.Join(cfg.StateDir, witnessDir)
	if err := durable.Mkdir(durable.OS{}, dir, 0o700); err != nil {
		return nil, nil, err
	}
	key, err := witnessKey(filepath.Join(dir, witnessKeyFile))
	if err != nil {
		return nil, nil, err
	}
	cosigner, err := chain.NewCosigner(w.Name, key)
	if err != nil {
		return nil, nil, err
	}
	logs, err := watchedLogs(w.Logs)
	if err != nil {
		return nil, nil, err
	}
	if err := durable.WriteFile(durable.OS{}, filepath.Join(dir, witnessKeyPublic), []byte(cosigner.Key().String()+"\n"), 0o644); err != nil {
		return nil, nil, err
	}
	s, err := witness.NewServer(witness.ServerConfig{Logs: logs, Cosigner: cosigner, Store: witness.Dir{FS: durable.OS{}, Path: dir}, Now: time.Now, Slog: log,
		Contradicted: func(origin string, lines uint64) {
			caller.Raise(alarm.Alarm{Kind: string(replica.AlarmRefusal), Time: time.Now().UTC(), Origin: origin,
				Text: fmt.Sprintf("the log, which this host watches, signed two trees of %d lines: both checkpoints are kept", lines)})
		}})
	if err != nil {
		return nil, nil, err
	}
	shown, err := tls.LoadX509KeyPair(w.CertificateFile, w.KeyFile)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "the certificate of the witness, or its key, cannot be used").WithCause(err).
			WithHint("witness.certificate_file and witness.key_file are PEM files that belong together")
	}
	l, err := net.Listen("tcp", w.Listen)
	if err != nil {
		return nil, nil, fault.New(fault.Unavailable, "cannot listen on "+w.Listen+reason(err)).WithCause(err).WithHint("is something else listening there?")
	}
	log.Info("watching logs", "listen", l.Addr().String(), "logs", len(logs), "witness", cosigner.Key().String())
	return &http.Server{
		Handler: s, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{shown}}, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
	}, l, nil
}

// serveWitness answers until ctx ends.
func serveWitness(ctx context.Context, s *http.Server, l net.Listener, log *slog.Logger) {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		log.ErrorContext(ctx, "watching logs ended", "error", err)
	}
}

// witnessKey reads the key of the witness, or makes it at the first start. A new one in place of one that was lost would watch as if for the first time, under
// another key ID, which no policy names.
func witnessKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, durable.WriteFile(durable.OS{}, path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fault.New(fault.Corrupt, path+" holds no key").WithHint("restore it: a new key would be another witness")
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := any.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fault.New(fault.Corrupt, path+" holds no Ed25519 key").WithHint("restore it: a new key would be another witness").WithCause(err)
	}
	return key, nil
}

// watchedLogs reads verifier keys, one a line; empty lines and lines that begin with # are passed over.
func watchedLogs(file string) ([]string, error) {
	text, err := readSmall(file, chain.MaxPolicy)
	if err != nil {
		return nil, err
	}
	var keys []string
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := chain.CheckLogKey(line); err != nil {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("line %d of %s is no key of a log", i+1, file)).WithHint("it is one line of the appliance's log-key.txt").WithCause(err)
		}
		keys = append(keys, line)
	}
	if len(keys) == 0 {
		return nil, fault.New(fault.Invalid, file+" names no log").WithHint("write the log-key.txt of each appliance that is to be watched into it")
	}
	return keys, nil
}
