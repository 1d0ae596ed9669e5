package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"postern/cmd/postern-bench/traffic"
)

// newPostfix is Postfix as a bare relay to the sink, with a configuration and a
// queue of its own, beside whatever Postfix runs on the machine.
func newPostfix(at place) (*peer, error) {
	binary, err := exec.LookPath("postfix")
	if err != nil {
		return nil, fmt.Errorf("%w; install it, or name other --peers", err)
	}
	if os.Getuid() != 0 {
		return nil, errors.New("postfix needs root; run as root, or name other --peers")
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(at.dir, "config")
	for _, dir := range []string{config, filepath.Join(at.dir, "queue"), filepath.Join(at.dir, "data")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(at.dir, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("chown: %w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(config, "main.cf"), []byte(postfixMain(at)), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(config, "master.cf"), []byte(postfixMaster(address)), 0o644); err != nil {
		return nil, err
	}
	run := func(verb string) *exec.Cmd { return exec.Command(binary, "-c", config, verb) }
	return &peer{
		name: "postfix", address: address, tree: true, command: run("start-fg"),
		end: func() error { return run("stop").Run() },
	}, nil
}

// postfixMain is Postfix without all that costs and that a relay can do without:
// no DNS, no lookup, no filter, no TLS, no log but for warnings, no throttle on
// its way in. Everything else is its default.
func postfixMain(at place) string {
	host, port, _ := net.SplitHostPort(at.inside) // an address of ours
	return fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = relay.%[2]s
mydestination =
mynetworks = 127.0.0.0/8
local_recipient_maps =
alias_maps =
alias_database =
relay_domains = %[2]s
relay_recipient_maps =
relayhost = [%[3]s]:%[4]s
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtputf8_enable = no
message_size_limit = 60000000
mailbox_size_limit = 0
in_flow_delay = 0
`, at.dir, traffic.Domain, host, port)
}

// postfixMaster names the services that a relay needs.
func postfixMaster(address string) string {
	return address + `      inet  n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
`
}
