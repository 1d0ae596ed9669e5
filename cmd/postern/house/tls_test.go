package house

import (
	"crypto/tls"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/cmd/postern/config"
)

// serverName is the name that the certificate in hand is for.
func serverName(t *testing.T, c *tls.Certificate) string {
	t.Helper()
	return c.Leaf.DNSNames[0]
}

// again lets the next look at the files come at once.
func (cs *certificates) again() *tls.Certificate {
	cs.mu.Lock()
	cs.lookedAt = time.Time{}
	cs.mu.Unlock()
	return cs.current()
}

func TestSelfSigned(t *testing.T) {
	c, dir, log := config.Default(), t.TempDir(), slog.New(slog.DiscardHandler)
	c.Hostname = "mx.example.com"
	first, err := newCertificates(c, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if name := serverName(t, first.current()); name != "mx.example.com" {
		t.Errorf("for %s", name)
	}
	second, err := newCertificates(c, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if !first.loaded.Leaf.Equal(second.loaded.Leaf) {
		t.Error("another certificate at the next start")
	}
	info, err := os.Stat(filepath.Join(dir, "mx.example.com.key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
}

// A certificate whose files change is read again, whichever of them is the newer
// one; while they don't fit each other the old one serves.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	c := config.Default()
	c.TLS.Certificate, c.TLS.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := CheckCertificate(c); err == nil {
		t.Error("files that are not there are good")
	}
	make := func(name string) {
		if err := selfSign(name, c.TLS.Certificate, c.TLS.Key); err != nil {
			t.Fatal(err)
		}
	}
	date := func(file string, at time.Time) {
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	make("one.example")
	date(c.TLS.Key, time.Now().Add(time.Hour)) // newer than all that comes
	if err := CheckCertificate(c); err != nil {
		t.Error(err)
	}
	cs, err := newCertificates(c, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(c.TLS.Key)
	if err != nil {
		t.Fatal(err)
	}

	make("two.example")
	if name := serverName(t, cs.current()); name != "one.example" {
		t.Errorf("%s before its time", name)
	}
	newKey, _ := os.ReadFile(c.TLS.Key)
	if err := os.WriteFile(c.TLS.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	date(c.TLS.Key, time.Now().Add(time.Hour))
	if name := serverName(t, cs.again()); name != "one.example" {
		t.Errorf("%s, whose key is not there yet", name)
	}
	if err := os.WriteFile(c.TLS.Key, newKey, 0o600); err != nil {
		t.Fatal(err)
	}
	date(c.TLS.Key, time.Now().Add(time.Hour))
	if name := serverName(t, cs.again()); name != "two.example" {
		t.Errorf("%s, want two.example", name)
	}
	if err := os.Remove(c.TLS.Key); err != nil {
		t.Fatal(err)
	}
	if name := serverName(t, cs.again()); name != "two.example" {
		t.Errorf("%s, want two.example", name)
	}
}

// What the SMTP server gets makes a handshake.
func TestHandshake(t *testing.T) {
	c := config.Default()
	c.Hostname = "mx.example.com"
	cs, err := newCertificates(c, t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cs.config())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "x")
		_ = conn.Close()
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if state := conn.ConnectionState(); state.Version < tls.VersionTLS12 || state.PeerCertificates[0].DNSNames[0] != "mx.example.com" {
		t.Errorf("%+v", state)
	}
}
