package main

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

var errNotExist = fs.ErrNotExist

// file is one message from disk, or why it could not be read.
type file struct {
	content []byte
	err     error
}

// maxFile bounds one message, in octets.
const maxFile = 256 << 20

// messages reads the messages of each path: a file, a folder and what lies below
// it, a mailbox, or "-".
func messages(paths []string, in io.Reader) iter.Seq2[string, file] {
	return func(yield func(string, file) bool) {
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
					going = yield(name, file{err: err})
				case d.Type().IsRegular():
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

func open(name string, yield func(string, file) bool) bool {
	f, err := os.Open(name)
	if err != nil {
		return yield(name, file{err: err})
	}
	defer f.Close()
	return split(name, f, yield)
}

// split reads one message, or where the text begins as a mailbox does, each
// message of it: a line "From …" behind an empty line begins the next one.
func split(name string, in io.Reader, yield func(string, file) bool) bool {
	r := bufio.NewReaderSize(in, 64<<10)
	start, _ := r.Peek(5) // a shorter file is no mailbox
	if !bytes.Equal(start, []byte("From ")) {
		return one(name, r, yield)
	}
	for n := 1; ; n++ {
		content, more, err := nextInMailbox(r)
		if err != nil {
			return yield(name, file{err: fmt.Errorf("%s: %w", name, err)})
		}
		if !yield(fmt.Sprintf("%s#%d", name, n), file{content: crlf(content)}) {
			return false
		}
		if !more {
			return true
		}
	}
}

func one(name string, r io.Reader, yield func(string, file) bool) bool {
	content, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = errTooLarge
	}
	if err != nil {
		return yield(name, file{err: fmt.Errorf("%s: %w", name, err)})
	}
	return yield(name, file{content: crlf(content)})
}

var errTooLarge = fmt.Errorf("a message of more than %d MB", maxFile>>20)

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
