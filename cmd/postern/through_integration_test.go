//go:build integration

package main_test

import (
	"bytes"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// awkward is a body that a careless hop changes: dots, 8-bit octets, blanks at
// the end of lines, a long line, empty lines at the end.
var awkward = ".\n..\n.dot\n \n\t \nblanks   \n\xe9\xff\x80 not UTF-8, and UTF-8: é\nFrom here\n" +
	strings.Repeat("long ", 500) + "\n\n\n"

// contractFields are what a message may get (CONTRACT, section 3).
var contractFields = []string{
	"Authentication-Results", "Received", "X-Postern-Id", "X-Postern-Stripped", "X-Spam-Flag", "X-Spam-Level", "X-Spam-Score", "X-Spam-Status",
}

// checkAdded holds what arrived to section 3 of the contract, for clean mail
// with one recipient.
func checkAdded(t *testing.T, got, original []byte, with string) map[string][]string {
	t.Helper()
	fields := added(t, got, original)
	for name, values := range fields {
		if !slices.Contains(contractFields, name) || len(values) != 1 {
			t.Errorf("added %s: %q", name, values)
		}
	}
	one := func(name, pattern string) {
		t.Helper()
		if values := fields[name]; len(values) != 1 || !regexp.MustCompile(pattern).MatchString(values[0]) {
			t.Errorf("%s: %q, want %s", name, values, pattern)
		}
	}
	one("Received", `^from .*127\.0\.0\.1.* by mx\.example\.com \(Postern\) with `+with+` id [0-9a-z]+ .*for <anna@example\.com>.*; .*\d{4} \d\d:\d\d:\d\d [+-]\d{4}`)
	one("Authentication-Results", `^mx\.example\.com; *none`)
	one("X-Spam-Flag", `^NO$`)
	one("X-Spam-Score", `^-?\d+\.\d$`)
	one("X-Spam-Status", `^No, score=-?\d+\.\d required=5\.0 tests=`)
	one("X-Postern-Id", `^[0-9a-z]{22}$`)
	if !strings.Contains(strings.Join(fields["Received"], ""), " id "+strings.Join(fields["X-Postern-Id"], "")) {
		t.Errorf("the ids differ: %v", fields)
	}
	return fields
}

// A message arrives byte for byte, in clear and under TLS, whatever its body.
func TestIntegrationThrough(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	for name, content := range map[string][]byte{
		"small": message("small", "Hello\n"), "awkward": message("awkward", awkward),
		"no body": []byte("Subject: no body\r\n\r\n"), "no header": []byte("\r\nno header\r\n"), "empty": nil,
		"large":           append(message("large", ""), bytes.Repeat([]byte("seventy octets of text, and two for the end of the line, as is usual..\r\n"), 40_000)...),
		"a dot and no LF": append(message("d", ""), "..x\r\n"...),
	} {
		for _, secure := range []bool{false, true} {
			in.clear()
			with := map[bool]string{false: "ESMTP", true: "ESMTPS"}[secure]
			r, err := w.dial(secure).transaction(toAnna, content)
			if err != nil || !strings.HasPrefix(r, "250 2.0.0 ") {
				t.Fatalf("%s: %q %v", name, r, err)
			}
			a := in.only(t)
			fields := checkAdded(t, a.content, content, with)
			if got := fields["X-Postern-Id"]; len(got) == 1 && got[0] != idOf(t, r) {
				t.Errorf("%s: id %s in the header, reply %q", name, got, r)
			}
			if a.from != toAnna.from || !slices.Equal(a.to, toAnna.to) {
				t.Errorf("%s: envelope %s %s", name, a.from, a.to)
			}
		}
	}
}

// Fields that only we write are removed where a stranger wrote them, and nothing
// else is.
func TestIntegrationForgedFields(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	kept := "Received: from a by mx.example.com (Postern) with ESMTP id x;\r\n\tSat, 21 Nov 2026 10:00:00 +0000\r\n" +
		"Authentication-Results: other.example; spf=pass\r\nX-Spam-Checker: mine\r\nX-Virus: none\r\n"
	forged := "X-Spam-Flag: NO\r\nx-spam-status: No,\r\n score=-100\r\nX-Spam-Score: -1\r\nX-Spam-Level: \r\nX-POSTERN-Anything: x\r\n" +
		"Authentication-Results: mx.example.com; dkim=pass\r\nauthentication-results: (c) MX.Example.COM (d) 1;\r\n dkim=pass\r\n"
	rest := string(message("forged", "X-Spam-Flag: NO\nin the body stays\n"))
	w.send(toAnna, []byte(forged+kept+rest), "250")
	checkAdded(t, in.only(t).content, []byte(kept+rest), "ESMTP")
}

// The clients that people use.
func TestIntegrationClients(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	content := message("from a client", awkward)
	file := filepath.Join(w.dir, "message")
	// swaks adds a newline of its own.
	writeFile(t, file, strings.TrimSuffix(strings.ReplaceAll(string(content), "\r\n", "\n"), "\n"))
	raw := filepath.Join(w.dir, "raw")
	writeFile(t, raw, string(content))
	const python = `
import smtplib, ssl, sys
host, port = sys.argv[1].split(":")
s = smtplib.SMTP(host, int(port), timeout=60)
if sys.argv[3] == "tls":
    s.starttls(context=ssl._create_unverified_context())
s.sendmail("alice@sender.example", ["anna@example.com"], open(sys.argv[2], "rb").read())
s.quit()`
	swaks := []string{"swaks", "--server", w.mx, "--from", "alice@sender.example", "--to", "anna@example.com", "--data", "@" + file, "--timeout", "60s"}
	for _, c := range []struct {
		name, with string
		command    []string
	}{
		{"swaks", "ESMTP", swaks},
		{"swaks with TLS", "ESMTPS", append(slices.Clip(swaks), "--tls")},
		{"swaks pipelining", "ESMTP", append(slices.Clip(swaks), "--pipeline")},
		{"smtplib", "ESMTP", []string{"python3", "-c", python, w.mx, raw, "clear"}},
		{"smtplib with TLS", "ESMTPS", []string{"python3", "-c", python, w.mx, raw, "tls"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in.clear()
			if out, err := exec.Command(c.command[0], c.command[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkAdded(t, in.only(t).content, content, c.with)
		})
	}
}

// A real Postfix is the sender's server in front, and another one the server
// inside: it says whom it has, and what it says stands at the border.
func TestIntegrationPostfix(t *testing.T) {
	t.Parallel()
	back := startPostfixInside(t, "anna", "bob")
	w := newWorld(t, fmt.Sprintf(`[domains."example.com"]
deliver_to = [%q]
recipients = "verify"
[delivery]
tls = "encrypt"`, back.address))
	w.start()
	front := startPostfixFront(t, w.mx)

	content := message("through two Postfixes", awkward)
	c, err := dial(front.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, rcpt := range []string{"anna", "bob"} {
		r, err := c.transaction(envelope{"alice@sender.example", []string{rcpt + "@example.com"}}, content)
		if err != nil || r[0] != '2' {
			t.Fatal(r, err)
		}
	}
	for _, rcpt := range []string{"anna", "bob"} {
		// A maildir has LF at the end of lines.
		got := bytes.ReplaceAll(back.onlyIn(t, rcpt), []byte("\n"), []byte("\r\n"))
		fields := added(t, got, content)
		if n := len(fields["Received"]); n != 3 {
			t.Fatalf("%d Received: %v", n, fields)
		}
		if inner := fields["Received"][0]; !strings.Contains(inner, "from mx.example.com") || !strings.Contains(inner, "using TLS") {
			t.Errorf("the inside says %q", inner)
		}
		if ours := fields["Received"][1]; !strings.Contains(ours, "by mx.example.com (Postern) with ESMTPS id") {
			t.Errorf("Postern says %q", ours)
		}
		names := slices.Sorted(maps.Keys(fields))
		if want := []string{"Authentication-Results", "Delivered-To", "Received", "Return-Path", "X-Original-To", "X-Postern-Id"}; !slices.Equal(slices.DeleteFunc(names, isSpamField), want) {
			t.Errorf("fields %q, want %q", names, want)
		}
	}

	// Nobody inside has the name: refused at the border, and the sender's own
	// server tells the sender.
	direct := w.dial(true)
	direct.expect(t, "250", "MAIL FROM:<alice@sender.example>")
	direct.expect(t, "550 5.1.1", "RCPT TO:<nobody@example.com>")
	direct.expect(t, "250", "RCPT TO:<anna@example.com>")
	if r, err := c.transaction(envelope{"alice@sender.example", []string{"nobody@example.com"}}, content); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}
	eventually(t, "the sender's Postfix hears 550 5.1.1", func() bool {
		return regexp.MustCompile(`dsn=5\.1\.1, status=bounced .*said: 550 5\.1\.1`).MatchString(front.log.String())
	})
	if found := w.objects("track", "nobody@example.com"); len(found) < 2 || !strings.HasPrefix(found[0].text("reply"), "550 5.1.1") {
		t.Errorf("track: %v", found)
	}
}

func isSpamField(name string) bool { return strings.HasPrefix(name, "X-Spam-") }
