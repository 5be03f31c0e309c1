package alarm

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/smtp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
)

// mailServer is one that offers STARTTLS, or not, and wants a password. It notes what it hears in clear and what within TLS.
type mailServer struct {
	address string
	shown   tls.Certificate
	offers  bool

	mu           sync.Mutex
	clear, inTLS string
}

// newMailServer returns a server for localhost, and the file of its certificate.
func newMailServer(t *testing.T, offers bool) (*mailServer, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &mailServer{address: fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port), shown: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, offers: offers}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.talk(conn)
		}
	}()
	return s, write(t, "roots.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
}

func (s *mailServer) hear(secure bool, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secure {
		s.inTLS += line
		return
	}
	s.clear += line
}

func (s *mailServer) heard() (clear, inTLS string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clear, s.inTLS
}

func (s *mailServer) talk(conn net.Conn) {
	defer func() { conn.Close() }()
	in, secure, data := bufio.NewReader(conn), false, false
	fmt.Fprint(conn, "220 here\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		s.hear(secure, line)
		switch word := strings.ToUpper(strings.TrimSpace(line)); {
		case data && word == ".":
			data = false
			fmt.Fprint(conn, "250 taken\r\n")
		case data:
		case strings.HasPrefix(word, "EHLO") && s.offers && !secure:
			fmt.Fprint(conn, "250-here\r\n250 STARTTLS\r\n")
		case strings.HasPrefix(word, "EHLO"):
			fmt.Fprint(conn, "250-here\r\n250 AUTH PLAIN\r\n")
		case word == "STARTTLS":
			fmt.Fprint(conn, "220 go on\r\n")
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.shown}})
			in, secure = bufio.NewReader(conn), true
		case strings.HasPrefix(word, "AUTH"):
			fmt.Fprint(conn, "235 welcome\r\n")
		case word == "DATA":
			data = true
			fmt.Fprint(conn, "354 go on\r\n")
		case word == "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 yes\r\n")
		}
	}
}

// TestMailOverTLS: with STARTTLS everything but the greeting is said within TLS, to a server that the roots vouch for by its name; to any other nothing is said.
func TestMailOverTLS(t *testing.T) {
	s, roots := newMailServer(t, true)
	_, other := newMailServer(t, true)
	cfg := config.Alarm{MailHost: s.address, MailFrom: "backup@example.org", MailTo: []string{"a@example.org"}, MailUser: "backup", MailFile: write(t, "password", "s3cret\n", 0o600), Roots: roots}
	try := func(cfg config.Alarm) error {
		return New(cfg, "backup-1", silent()).Try(t.Context(), Alarm{Kind: "refusal", Time: time.Unix(1e9, 0), Origin: "x", Text: "a fork"})
	}
	if err := try(cfg); err != nil {
		t.Fatal(err)
	}
	clear, inTLS := s.heard()
	if clear != "EHLO backup-1\r\nSTARTTLS\r\n" {
		t.Errorf("said in clear:\n%s", clear)
	}
	password := base64.StdEncoding.EncodeToString([]byte("\x00backup\x00s3cret"))
	for _, want := range []string{"AUTH PLAIN " + password, "MAIL FROM:<backup@example.org>", "MIME-Version: 1.0\r\n", "\r\na fork\r\n"} {
		if !strings.Contains(inTLS, want) {
			t.Errorf("%q is missing in\n%s", want, inTLS)
		}
	}
	byNumber := cfg
	byNumber.MailHost = strings.Replace(s.address, "localhost", "127.0.0.1", 1)
	stranger := cfg
	stranger.Roots = other
	for what, cfg := range map[string]config.Alarm{"an unknown authority": stranger, "another name": byNumber} {
		if err := try(cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, again := s.heard(); again != inTLS {
		t.Errorf("said to a server that nobody vouches for:\n%s", strings.TrimPrefix(again, inTLS))
	}
}

// TestMailOfManyFindings: whatever an alarm says, no line of the mail is longer than mail servers take, and nothing of it is lost.
func TestMailOfManyFindings(t *testing.T) {
	s, roots := newMailServer(t, true)
	text := strings.TrimSpace(strings.Repeat("firewall.active: the packet filter cannot be compared; ", 40)) + " " + strings.Repeat("ü", 1500)
	cfg := config.Alarm{MailHost: s.address, MailFrom: "a@example.org", MailTo: []string{"b@example.org"}, Roots: roots}
	if err := New(cfg, "signing-1", silent()).Try(t.Context(), Alarm{Kind: KindDoctor, Time: time.Unix(1e9, 0), Text: text}); err != nil {
		t.Fatal(err)
	}
	_, said := s.heard()
	for line := range strings.SplitSeq(said, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	bare := func(s string) string { return strings.Join(strings.Fields(s), "") }
	if !strings.Contains(bare(said), bare(text)) {
		t.Errorf("not all of it was sent:\n%s", said)
	}
}

// TestMailWithoutTLS: who takes STARTTLS out of the greeting of a server elsewhere is told nothing.
func TestMailWithoutTLS(t *testing.T) {
	s, roots := newMailServer(t, false)
	m := mail{config.Alarm{MailHost: s.address, MailUser: "backup", MailFile: write(t, "password", "s3cret\n", 0o600), Roots: roots}}
	conn, err := net.Dial("tcp", strings.Replace(s.address, "localhost", "127.0.0.1", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := smtp.NewClient(conn, "mail.example.org")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.greet(c, "backup-1", "mail.example.org", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("%v", err)
	}
	if clear, _ := s.heard(); strings.Contains(clear, "AUTH") {
		t.Errorf("said:\n%s", clear)
	}
}
