package smtpd

import "syscall"

// pending says whether the client sent octets that nobody has read yet. It does
// not wait, and leaves them where they are.
func pending(raw syscall.RawConn) bool {
	n := 0
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, _ = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && n > 0
}
