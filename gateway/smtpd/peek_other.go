//go:build !unix

package smtpd

import "syscall"

// pending cannot tell on this system: only what came together with a command is
// known to have come before its time.
func pending(syscall.RawConn) bool { return false }
