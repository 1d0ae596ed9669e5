package house

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stateVersion is the version of the state folder's layout as a whole. The
// databases in it have versions of their own.
const stateVersion = 1

// state is the folder that holds everything worth a backup, locked for us.
type state struct {
	dir  string
	lock *os.File
}

// errRunning says that another process holds the state.
var errRunning = errors.New("another Postern is using the state")

// openState makes the folder where there is none, locks it, and looks that it is
// not a newer Postern's. A lock that is held is waited for a moment: a command
// may be just about to end.
func openState(ctx context.Context, dir string) (*state, error) {
	for _, sub := range []string{"", "tmp", "tls"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
	}
	// A folder that was there before may be open to others: it holds their mail.
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm() != 0o700 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if err := flock(ctx, lock); err != nil {
		return nil, errors.Join(Hint{fmt.Errorf("%w %s", err, dir), "stop it first, or use the command while it runs: it then works through its control socket"}, lock.Close())
	}
	s := &state{dir, lock}
	if err = s.checkVersion(); err == nil {
		err = s.emptyTmp()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// emptyTmp removes what a crash left: nobody else is using the state.
func (s *state) emptyTmp() error {
	left, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		return err
	}
	for _, e := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.path("tmp"), e.Name())))
	}
	return err
}

// writeFile writes a small file that is there whole or not at all, whatever the
// power does: half of one would keep Postern from starting again.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func flock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errRunning
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// checkVersion reads, or writes into a new state, the version of the layout.
func (s *state) checkVersion() error {
	path := s.path("VERSION")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return writeFile(path, []byte(strconv.Itoa(stateVersion)+"\n"))
	}
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s does not hold a version", path)
	}
	if version > stateVersion {
		return Hint{
			fmt.Errorf("the state in %s is of version %d, and this Postern knows %d", s.dir, version, stateVersion),
			"install the newer Postern again, or restore a backup that this one wrote",
		}
	}
	return nil
}

// floor is how many octets of the disk are left free: what is written there
// beside the mail, records and states, must not be what fails. 64 MiB, or a
// twentieth of a small disk.
func (s *state) floor() int64 {
	const most = 64 << 20
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return most
	}
	return max(1, min(most, int64(fs.Blocks)*int64(fs.Bsize)/20))
}

// path is the place of something in the state.
func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

// Close gives the lock back.
func (s *state) Close() error { return s.lock.Close() }
