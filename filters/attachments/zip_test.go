package attachments

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"postern/filters/filtertest"
	"postern/gateway/mail"
)

// entry is a member to be packed.
type entry struct {
	name    string
	content string
}

func zipped(t testing.TB, method uint16, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// attached is a message with one attachment.
func attached(name, content string) string {
	return "Subject: x\r\nContent-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		wrapped(content)
}

func wrapped(content string) string {
	var b strings.Builder
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(content))), 76) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	return b.String()
}

func count(results []mail.Result, symbol string) (n int) {
	for _, r := range results {
		if r.Symbol == symbol {
			n++
		}
	}
	return n
}

// TestLimits: each at the limit, and one beyond.
func TestLimits(t *testing.T) {
	many := func(n int) string {
		var entries []entry
		for i := range n {
			entries = append(entries, entry{fmt.Sprintf("%d.txt", i), "x"})
		}
		return attached("x.zip", zipped(t, zip.Store, entries...))
	}
	small := zipped(t, zip.Store, entry{"a.txt", "hello"})
	zeros := attached("x.zip", zipped(t, zip.Deflate, entry{"a.txt", strings.Repeat("\x00", 100_000)}))
	for name, c := range map[string]struct {
		config Config
		eml    string
		want   int // ATTACHMENT_LIMIT
	}{
		"members":              {Config{MaxEntries: 50}, many(50), 0},
		"members, beyond":      {Config{MaxEntries: 50}, many(51), 1},
		"members, default":     {Config{}, many(10_000), 0},
		"octets":               {Config{MaxContainer: int64(len(small))}, attached("x.zip", small), 0},
		"octets, beyond":       {Config{MaxContainer: int64(len(small)) - 1}, attached("x.zip", small), 1},
		"unpacked":             {Config{MaxUnpacked: 100_000, MaxRatio: 10}, zeros, 0},
		"unpacked, beyond":     {Config{MaxUnpacked: 99_999, MaxRatio: 10}, zeros, 1},
		"ratio":                {Config{MaxUnpacked: 10, MaxRatio: 1000}, zeros, 0},
		"local headers":        {Config{MaxEntries: 50}, attached("x.zip", locals(50)), 0},
		"local headers beyond": {Config{MaxEntries: 50}, attached("x.zip", locals(51)), 1},
	} {
		t.Run(name, func(t *testing.T) {
			results := check(t, c.config, c.eml)
			if got := count(results, "ATTACHMENT_LIMIT"); got != c.want {
				t.Errorf("%d limits, want %d: %s", got, c.want, describe(results))
			}
		})
	}
}

// locals is a zip without a central directory.
func locals(n int) string {
	var b []byte
	for i := range n {
		b = appendLocal(b, fmt.Sprintf("%d.txt", i), "x", 1)
	}
	return string(b)
}

// appendLocal writes a stored member with its local header.
func appendLocal(b []byte, name, content string, declared uint32) []byte {
	h := make([]byte, localSize)
	copy(h, localSignature)
	binary.LittleEndian.PutUint32(h[14:], crc32.ChecksumIEEE([]byte(content)))
	binary.LittleEndian.PutUint32(h[18:], uint32(len(content)))
	binary.LittleEndian.PutUint32(h[22:], declared)
	binary.LittleEndian.PutUint16(h[26:], uint16(len(name)))
	return append(append(append(b, h...), name...), content...)
}

// A container over its limit is never taken for clean, and its digest is known.
func TestLimitResult(t *testing.T) {
	results := check(t, Config{MaxContainer: 50}, attached("x.zip", zipped(t, zip.Store, entry{"a.exe", "hello"})))
	if len(results) != 1 {
		t.Fatalf("got %s", describe(results))
	}
	r := results[0]
	if r.Symbol != "ATTACHMENT_LIMIT" || r.Fault != mail.FaultMessage || r.Err == nil || len(r.Attachment.SHA256) != 64 {
		t.Errorf("got %+v %+v", r, r.Attachment)
	}
}

// What may be unpacked is bounded for the whole message; what is past it is
// still known by its name and first octets.
func TestUnpackBudget(t *testing.T) {
	big := strings.Repeat("0123456789", 1000)
	eml := attached("x.zip", zipped(t, zip.Deflate, entry{"1.txt", big}, entry{"2.txt", big}, entry{"3.dat", string(peFile(0x80)) + big}, entry{"4.txt", "small"}))
	results := check(t, Config{MaxUnpacked: 15_000}, eml)
	var digests []bool
	for _, r := range results[1:] {
		digests = append(digests, r.Attachment.SHA256 != "")
	}
	if !slices.Equal(digests, []bool{true, false, false, true}) {
		t.Errorf("digests: %v", digests)
	}
	if count(results, "ATTACHMENT_BLOCKED") != 1 || results[3].Attachment.TrueType != "application/vnd.microsoft.portable-executable" {
		t.Errorf("got %s", describe(results))
	}
}

// The lists of what is reported are bounded, but a forbidden member is always
// found.
func TestListsAreBounded(t *testing.T) {
	var entries []entry
	for i := range maxListed + 1 {
		entries = append(entries, entry{fmt.Sprintf("%d.txt", i), "x"})
	}
	for i := range maxBad + 1 {
		entries = append(entries, entry{fmt.Sprintf("%d.exe", i), "x"})
	}
	results := check(t, Config{}, attached("x.zip", zipped(t, zip.Store, entries...)))
	if bad := count(results, "ATTACHMENT_BLOCKED"); bad != maxBad {
		t.Errorf("%d forbidden", bad)
	}
	if rest := count(results, ""); rest != maxListed+1 {
		t.Errorf("%d harmless", rest)
	}
}

// TestReadZip: names and contents of what is found.
func TestReadZip(t *testing.T) {
	stored := zipped(t, zip.Store, entry{"a.txt", "aaa"}, entry{"b.txt", "bbb"})
	nested := zipped(t, zip.Store, entry{"inner.zip", stored})
	centralAt := strings.Index(stored, centralSignature)
	for name, c := range map[string]struct {
		data string
		want string
		err  bool
	}{
		"empty":               {"", "", true},
		"empty zip":           {zipped(t, zip.Store), "", false},
		"two":                 {stored, "[a.txt]3 [b.txt]3", false},
		"in front of it":      {"junk" + stored, "[a.txt]3 [b.txt]3", false},
		"hidden in front":     {string(appendLocal(nil, "c.exe", "ccc", 3)) + stored, "[a.txt]3 [b.txt]3 [c.exe]3", false},
		"hidden behind":       {stored[:centralAt] + string(appendLocal(nil, "c.exe", "ccc", 3)) + stored[centralAt:], "[a.txt]", false},
		"nested is not ours":  {nested, "[inner.zip]" + fmt.Sprint(len(stored)), false},
		"no directory":        {stored[:centralAt], "[a.txt]73 [b.txt]19", true},
		"cut in a header":     {stored[:20], "", true},
		"name past the end":   {stored[:32], "", true},
		"another local name":  {strings.Replace(stored, "a.txt", "a.exe", 1), "[a.txt a.exe]3 [b.txt]3", false},
		"header without name": {string(appendLocal(nil, "", "x", 1)), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			members, err := readZip([]byte(c.data), 100)
			if (err != nil) != c.err {
				t.Errorf("error %v", err)
			}
			var got []string
			for _, m := range members {
				got = append(got, fmt.Sprintf("%v%d", m.names, len(m.packed)))
			}
			if c.want != "" && !strings.HasPrefix(strings.Join(got, " "), c.want) {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

func TestSpans(t *testing.T) {
	s := spans{{10, 20}, {0, 5}, {15, 30}, {16, 17}, {40, 41}}.merged()
	if !slices.Equal(s, spans{{0, 5}, {10, 30}, {40, 41}}) {
		t.Fatalf("merged to %v", s)
	}
	for at, want := range map[int64]bool{0: true, 4: true, 5: false, 9: false, 10: true, 29: true, 30: false, 40: true, 41: false} {
		if s.cover(at) != want {
			t.Errorf("%d: %v", at, !want)
		}
	}
}

// Many containers at once wait for memory, and stop waiting with their context.
func TestMemoryIsShared(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.memory.Acquire(context.Background(), f.config.MaxContainer); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	m := filtertest.Message(attached("x.zip", zipped(t, zip.Store, entry{"a.exe", "x"})))
	go func() {
		_, err := f.Check(ctx, m, nil)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.memory.Release(f.config.MaxContainer)
	if results, err := f.Check(context.Background(), m, nil); err != nil || count(results, "ATTACHMENT_BLOCKED") != 1 {
		t.Errorf("then %s, %v", describe(results), err)
	}
	if !f.memory.TryAcquire(f.config.MaxContainer) {
		t.Error("memory was not given back")
	}
}

func FuzzZip(f *testing.F) {
	stored := zipped(f, zip.Store, entry{"a.txt", "aaa"}, entry{"b.exe", "bbb"})
	f.Add([]byte(stored))
	f.Add([]byte(zipped(f, zip.Deflate, entry{"a/b.txt", strings.Repeat("a", 1000)})))
	f.Add([]byte(stored[:60]))
	f.Add([]byte(locals(3)))
	filter, err := New(Config{MaxEntries: 20, MaxUnpacked: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		members, _ := readZip(data, 20)
		if len(members) > 21 && !bytes.Contains(data, []byte(centralSignature)) {
			t.Errorf("%d members", len(members))
		}
		results, err := filter.Check(context.Background(), filtertest.Message(attached("x.zip", "PK\x03\x04"+string(data))), nil)
		if err != nil {
			t.Error(err)
		}
		filtertest.WellFormed(t, results)
	})
}
