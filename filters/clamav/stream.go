package clamav

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"postern/filters/engine"
	"postern/gateway/mail"
)

type conn = net.Conn

// maxReply bounds what is read of a reply, in octets. A signature's name is
// shorter by far.
const maxReply = 4096

// maxChunk bounds one chunk of the stream. It saves clamd nothing to get less at
// a time, and keeps a chunk within what its StreamMaxLength can still count.
const maxChunk = 1 << 20

// preamble is written before the content, as one field more.
//
// QUIRK: clamd tells by the first octets what it scans, and opens no part of
// what it does not take for mail. A message whose first field is called "GIF89a"
// or "MZ" would be a picture or a program to it, with nothing found inside.
const preamble = "Received: by postern\r\n"

// scan streams the content to clamd and reads what it says of it.
func scan(c conn, content mail.Content) (answer, error) {
	s := &stream{conn: c, left: content.Size()}
	sent := s.send(content)
	if errors.Is(sent, engine.ErrContent) {
		return answer{}, sent
	}
	// Where clamd has enough it answers and closes, while the rest is still
	// being written: then that answer counts and not the failed write.
	reply, err := readReply(c)
	switch {
	case err != nil && sent != nil:
		return answer{}, fmt.Errorf("clamd: send: %w", sent)
	case err != nil:
		return answer{}, fmt.Errorf("clamd: instream: %w", err)
	}
	a, err := parse(reply)
	if err == nil && sent != nil && !a.final() {
		return answer{}, fmt.Errorf("clamd: %q before it had all: %w", reply, sent)
	}
	return a, err
}

// stream is an io.Writer that frames what is written as chunks. It copies
// nothing, and a message in memory leaves in one system call.
type stream struct {
	conn conn
	head []byte // goes before the next chunk
	left int64  // octets of the content that are still to come
	err  error  // of the connection
}

// send writes the command, the preamble, the content, and the end of it.
func (s *stream) send(content mail.Content) error {
	s.head = append([]byte("zINSTREAM\x00"), frame(len(preamble))...)
	s.head = append(s.head, preamble...)
	if s.left == 0 {
		return s.write(frame(0))
	}
	_, err := content.WriteTo(s)
	switch {
	case s.err != nil:
		return s.err
	case err != nil:
		return fmt.Errorf("%w: %w", engine.ErrContent, err)
	case s.left != 0:
		return fmt.Errorf("%w: %w", engine.ErrContent, io.ErrUnexpectedEOF)
	}
	return nil
}

// Write implements io.Writer. The end is written behind the last octet of the
// content and never without it: clamd must not take a part for the whole.
func (s *stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 && s.err == nil {
		chunk := p[:min(len(p), maxChunk)]
		s.left -= int64(len(chunk))
		var end []byte
		if s.left == 0 {
			end = frame(0)
		}
		if s.write(frame(len(chunk)), chunk, end) == nil {
			n += len(chunk)
		}
		p = p[len(chunk):]
	}
	return n, s.err
}

// write writes the octets, behind the head where it has not gone yet.
func (s *stream) write(octets ...[]byte) error {
	buffers := append(net.Buffers{s.head}, octets...)
	s.head = nil
	_, s.err = buffers.WriteTo(s.conn)
	return s.err
}

// frame is the length that stands before a chunk; 0 ends the stream.
func frame(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// command sends a command without an argument and reads its reply.
func command(c conn, name string) (string, error) {
	if _, err := c.Write([]byte("z" + name + "\x00")); err != nil {
		return "", fmt.Errorf("clamd: %s: %w", name, err)
	}
	reply, err := readReply(c)
	if err != nil {
		return "", fmt.Errorf("clamd: %s: %w", name, err)
	}
	return printable(reply), nil
}

// ping is the probe.
func ping(c conn) error {
	reply, err := command(c, "PING")
	if err == nil && reply != "PONG" {
		err = fmt.Errorf("clamd: PING: %w: %q", errReply, reply)
	}
	return err
}

// readReply reads up to the NUL that ends a reply. A reply that is cut short
// before it is an error: "stream: O" is not "stream: OK".
func readReply(r io.Reader) (string, error) {
	buf := make([]byte, maxReply)
	for n := 0; n < len(buf); {
		more, err := r.Read(buf[n:])
		if i := bytes.IndexByte(buf[n:n+more], 0); i >= 0 {
			return string(buf[:n+i]), nil
		}
		if n += more; err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: over %d octets", errReply, maxReply)
}
