package disk

import (
	"bytes"
	"errors"
	"testing"

	"postern/gateway/mail"
)

// octets is a file in memory.
type octets struct{ *bytes.Reader }

func (o octets) Size() (int64, error) { return o.Reader.Size(), nil }
func (octets) Close() error           { return nil }

func openBytes(b []byte) ReadFile { return octets{bytes.NewReader(b)} }

// FuzzItem reads any octets as an item's file: what is taken for whole is what
// would be written.
func FuzzItem(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		var env Envelope
		start, sum, err := readEnvelope(openBytes(b), &env)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatal("neither damaged nor newer:", err)
			}
			return
		}
		content := b[start : start+env.Size]
		if verifyContent(openBytes(b), start, env.Size, sum) != nil {
			return
		}
		var again bytes.Buffer
		if err := writeItem(&again, &env, mail.Bytes(content)); err != nil {
			t.Fatal(err)
		}
		var back Envelope
		if _, sum2, err := readEnvelope(openBytes(again.Bytes()), &back); err != nil || sum2 != sum {
			t.Fatal("written anew it differs:", err)
		}
	})
}

// FuzzState reads any octets as a state.
func FuzzState(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Progress
		n, err := decodeFrame(openBytes(b), kindState, &p)
		switch {
		case err == nil && n <= int64(len(b)):
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrVersion):
		default:
			t.Fatal(n, err)
		}
	})
}
