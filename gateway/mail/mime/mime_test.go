package mime

import "testing"

func TestParseMediaType(t *testing.T) {
	for in, want := range map[string]string{
		"text/plain": "text/plain", "TEXT/Html": "text/html", "multipart": "multipart/mixed", "multipart/": "multipart/mixed",
		"multipart/x/y": "multipart/mixed", "text": "text/plain", "html": "text/html", "image": "application/octet-stream",
		"x/y/z": "", "/plain": "", "": "", "te xt/plain": "", "message": "", "a/b=c": "",
	} {
		if got, _ := ParseMediaType(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
