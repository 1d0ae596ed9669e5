//go:build integration

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// postfix is a real Postfix with a configuration and a queue of its own.
type postfix struct {
	address string
	dir     string
	log     *notes
}

// nobody owns the mailboxes inside.
const nobody = 65534

// startPostfixFront starts a sender's Postfix that sends all to a gateway, with
// TLS.
func startPostfixFront(t *testing.T, gateway string) *postfix {
	t.Helper()
	host, port, _ := strings.Cut(gateway, ":")
	return startPostfix(t, fmt.Sprintf(`myhostname = front.sender.example
relayhost = [%s]:%s
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_security_level = encrypt
smtp_line_length_limit = 0
`, host, port))
}

// startPostfixInside starts a Postfix that has those mailboxes at example.com,
// and wants TLS.
func startPostfixInside(t *testing.T, mailboxes ...string) *postfix {
	t.Helper()
	dir := folder(t)
	table := ""
	for _, name := range mailboxes {
		table += fmt.Sprintf("%s@example.com %s/\n", name, name)
	}
	writeFile(t, filepath.Join(dir, "mailboxes"), table)
	writeCertificate(t, "inside.example.com", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "mail"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	p := startPostfix(t, fmt.Sprintf(`myhostname = inside.example.com
virtual_mailbox_domains = example.com
virtual_mailbox_maps = texthash:%[1]s/mailboxes
virtual_mailbox_base = %[1]s/mail
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[2]d
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = %[1]s/cert.pem
smtpd_tls_key_file = %[1]s/key.pem
smtpd_tls_received_header = yes
`, dir, nobody))
	p.dir = dir
	return p
}

// startPostfix starts a Postfix and waits until it answers.
func startPostfix(t *testing.T, settings string) *postfix {
	t.Helper()
	program, err := exec.LookPath("postfix")
	if err != nil {
		program = "/usr/sbin/postfix" // not every user's PATH holds the folder that Debian puts it in
	}
	dir := folder(t)
	p := &postfix{address: freeAddress(), dir: dir, log: &notes{}}
	config := filepath.Join(dir, "config")
	writeFile(t, filepath.Join(config, "main.cf"), fmt.Sprintf(postfixMain, dir)+settings)
	writeFile(t, filepath.Join(config, "master.cf"), p.address+postfixMaster)
	for _, sub := range []string{"queue", "data"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(program, "-c", config, "start-fg")
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("Postfix is needed: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Postfix' log:\n%s", p.log.tail())
		}
		_ = exec.Command(program, "-c", config, "stop").Run() // it may have ended
		_ = cmd.Wait()
	})
	eventually(t, "Postfix answers", func() bool {
		c, err := dial(p.address)
		if err == nil {
			c.close()
		}
		return err == nil
	})
	return p
}

// onlyIn waits for the one message in a mailbox.
func (p *postfix) onlyIn(t *testing.T, mailbox string) []byte {
	t.Helper()
	var files []string
	eventually(t, "a message in the mailbox of "+mailbox, func() bool {
		files, _ = filepath.Glob(filepath.Join(p.dir, "mail", mailbox, "new", "*"))
		return len(files) > 0
	})
	if len(files) != 1 {
		t.Fatalf("%d messages in the mailbox of %s", len(files), mailbox)
	}
	return []byte(readFile(t, files[0]))
}

// postfixMain is what every Postfix here has: no DNS, no local users, its log on
// its output.
const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = /dev/stdout
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
mynetworks = 127.0.0.0/8
local_recipient_maps =
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
`

const postfixMaster = ` inet  n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
`

// writeCertificate makes a self-signed certificate.
func writeCertificate(t *testing.T, name, certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	writeFile(t, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}
