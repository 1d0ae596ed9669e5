package mail

import (
	"io"
	"testing"
)

func TestReadSimple(t *testing.T) {
	h, parts, _ := Read(Bytes("Subject: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b--\r\n"), DefaultLimits)
	if h.Get("subject") != "a" || len(parts) != 3 {
		t.Fatal(h, parts)
	}
	if b, _ := io.ReadAll(parts[2].Open()); string(b) != "ABC" || !parts[2].Attached() || parts[2].Path != "2" {
		t.Fatalf("%q %+v", b, parts[2])
	}
}
