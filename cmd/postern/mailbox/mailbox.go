// Package mailbox reads messages from where people have them: files, folders,
// mailboxes, and standard input.
//
// A mailbox is RFC 4155's "mbox", by its first line and not by its name. Line ends
// become CRLF, as RFC 5321, section 2.3.8, has them; nothing else is changed. What
// a message says is left to gateway/mail.
package mailbox

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
)

// File is one message from disk, or why it could not be read.
type File struct {
	Content []byte // with CRLF at the end of each line
	Err     error
}

// maxFile bounds one message, in octets.
const maxFile = 256 << 20

// Messages reads the messages of each path: a file, a folder and what lies below
// it, a mailbox, or "-", which is in. Each comes with its name: the path, and in a
// mailbox "#" and its number. What can't be read, or is a message of more than 256
// MiB, is a File with Err; it ends its mailbox, and the other files follow.
func Messages(paths []string, in io.Reader) iter.Seq2[string, File] {
	return func(yield func(string, File) bool) {
		for _, path := range paths {
			if path == "-" {
				if !split("-", in, yield) {
					return
				}
				continue
			}
			going := true
			err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
				switch {
				case err != nil:
					going = yield(name, File{Err: err})
				case d.Type().IsRegular(), name == path && !d.IsDir():
					// What is named may be a link or a pipe; what only lies in a
					// folder must be a file.
					going = open(name, yield)
				}
				if !going {
					return fs.SkipAll
				}
				return nil
			})
			if err != nil || !going {
				return
			}
		}
	}
}

func open(name string, yield func(string, File) bool) bool {
	f, err := os.Open(name)
	if err != nil {
		return yield(name, File{Err: err})
	}
	defer f.Close()
	return split(name, f, yield)
}

// split reads one message, or where the text begins as a mailbox does, each
// message of it: a line "From …" behind an empty line begins the next one.
func split(name string, in io.Reader, yield func(string, File) bool) bool {
	r := bufio.NewReaderSize(in, 64<<10)
	start, _ := r.Peek(5) // a shorter file is no mailbox
	if !bytes.Equal(start, []byte("From ")) {
		return one(name, r, yield)
	}
	for n := 1; ; n++ {
		content, more, err := nextInMailbox(r)
		if err != nil {
			return yield(name, File{Err: fmt.Errorf("%s: %w", name, err)})
		}
		if !yield(fmt.Sprintf("%s#%d", name, n), File{Content: crlf(content)}) {
			return false
		}
		if !more {
			return true
		}
	}
}

func one(name string, r io.Reader, yield func(string, File) bool) bool {
	content, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = errTooLarge
	}
	if err != nil {
		return yield(name, File{Err: fmt.Errorf("%s: %w", name, err)})
	}
	return yield(name, File{Content: crlf(content)})
}

var errTooLarge = fmt.Errorf("a message of more than %d MiB", maxFile>>20)

// nextInMailbox reads behind the "From " line up to the next one. Quoted ones
// (">From ") are given back as they were.
func nextInMailbox(r *bufio.Reader) (content []byte, more bool, err error) {
	if _, err := r.ReadBytes('\n'); err != nil && err != io.EOF {
		return nil, false, err
	}
	empty := false
	for {
		line, err := r.ReadBytes('\n')
		content = append(content, line...)
		switch {
		case len(content) > maxFile:
			return nil, false, errTooLarge
		case err == io.EOF:
			return content, false, nil
		case err != nil:
			return nil, false, err
		}
		empty = len(bytes.TrimRight(line, "\r\n")) == 0
		if next, _ := r.Peek(5); empty && bytes.Equal(next, []byte("From ")) {
			return content, true, nil
		}
	}
}

// crlf gives every line the end that it has on its way through SMTP.
func crlf(content []byte) []byte {
	bare := bytes.Count(content, []byte("\n")) - bytes.Count(content, []byte("\r\n"))
	if bare == 0 {
		return content
	}
	out := make([]byte, 0, len(content)+bare)
	for i, c := range content {
		if c == '\n' && (i == 0 || content[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}
