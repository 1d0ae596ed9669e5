package house

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern/cmd/postern/config"
)

// certificates holds the certificate that STARTTLS shows, and reads it again when
// its files change.
type certificates struct {
	own string // folder of the self-signed one
	log *slog.Logger

	mu               sync.Mutex
	certificate, key string // files
	loaded           *tls.Certificate
	seen             [2]stamp // of the files, when they were loaded
	lookedAt         time.Time
}

// stamp is what tells one version of a file from another.
type stamp struct {
	changed time.Time
	size    int64
}

// lookAgain is how often, at most, the files are looked at.
const lookAgain = 5 * time.Second

func newCertificates(c *config.Config, own string, log *slog.Logger) (*certificates, error) {
	cs := &certificates{own: own, log: log}
	return cs, cs.configure(c)
}

// CheckCertificate says what is wrong with the certificate that a configuration
// names.
func CheckCertificate(c *config.Config) error {
	if c.TLS.Certificate == "" {
		return nil
	}
	_, err := newCertificates(c, "", slog.New(slog.DiscardHandler))
	return err
}

// configure takes the files that the configuration names, or a self-signed
// certificate that is made when there is none. On an error the old one stays.
func (cs *certificates) configure(c *config.Config) error {
	certificate, key := c.TLS.Certificate, c.TLS.Key
	if certificate == "" {
		certificate, key = filepath.Join(cs.own, c.Hostname+".cert.pem"), filepath.Join(cs.own, c.Hostname+".key.pem")
		if _, err := os.Stat(certificate); errors.Is(err, os.ErrNotExist) {
			if err := selfSign(c.Hostname, certificate, key); err != nil {
				return fmt.Errorf("self-signed certificate: %w", err)
			}
		}
	}
	seen := stamps(certificate, key) // before they are read: what changes meanwhile is read again
	loaded, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.certificate, cs.key, cs.loaded = certificate, key, &loaded
	cs.seen, cs.lookedAt = seen, time.Now()
	return nil
}

// config is what the SMTP server needs. TLS 1.2 is the least that is safe; what
// can't do it is left to its own devices in clear.
func (cs *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cs.current(), nil },
	}
}

// current is the certificate, read again when its files have changed. While they
// can't be read the old one serves.
func (cs *certificates) current() *tls.Certificate {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if time.Since(cs.lookedAt) < lookAgain {
		return cs.loaded
	}
	cs.lookedAt = time.Now()
	seen := stamps(cs.certificate, cs.key)
	if seen == cs.seen {
		return cs.loaded
	}
	loaded, err := tls.LoadX509KeyPair(cs.certificate, cs.key)
	if err != nil {
		// The two files are seldom written at the same instant: the next look
		// tries again.
		cs.log.Warn("certificate changed but can't be read; the old one serves", "err", err)
		return cs.loaded
	}
	cs.loaded, cs.seen = &loaded, seen
	cs.log.Info("certificate reloaded", "file", cs.certificate)
	return cs.loaded
}

// stamps are those of both files: either may be older than the other, before and
// after a change.
func stamps(certificate, key string) (s [2]stamp) {
	for i, file := range []string{certificate, key} {
		if info, err := os.Stat(file); err == nil {
			s[i] = stamp{info.ModTime().Round(0).UTC(), info.Size()}
		}
	}
	return s
}

// selfSign makes a certificate that encrypts, and proves nothing: senders' MTAs
// don't verify.
func selfSign(hostname, certificate, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hostname}, DNSNames: []string{hostname},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	// The key first: a certificate that is there means that both are.
	if err := writePEM(key, "PRIVATE KEY", secret); err != nil {
		return err
	}
	return writePEM(certificate, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
