package main

import (
	"context"
	"errors"
	"os"

	"postern/cmd/postern/house"
)

type backupCommand struct {
	File string `arg:"" help:"The file to write; - is standard output."`
}

// Help is shown by --help.
func (backupCommand) Help() string {
	return `Writes the quarantine with its originals, the spool, the records, the recipients that are
known, and the TLS key into one tar file, while the gateway runs. The configuration is not
in it. The file holds other people's mail: keep it safe.

Example:
  postern backup /srv/backup/postern-$(date +%F).tar`
}

// Run writes the backup beside its name first, so that half a backup never
// looks like one.
func (q backupCommand) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	if q.File == "-" {
		return o.Backup(ctx, t.out)
	}
	partial := q.File + ".partial"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = o.Backup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, q.File)
}

type restoreCommand struct {
	File  string `arg:"" help:"The file that backup wrote; - is standard input."`
	Force bool   `help:"Although there is a state already: it is moved aside."`
}

// Help is shown by --help.
func (restoreCommand) Help() string {
	return `Puts back what "postern backup" wrote, into the state folder of the configuration. Nothing
may run meanwhile. A state that is there already stays untouched unless --force is given;
it is then moved aside, not deleted.

Example:
  postern restore /srv/backup/postern-2026-11-22.tar`
}

// Run restores into a new folder, which takes the state's place when it is
// whole.
func (q restoreCommand) Run(ctx context.Context, c *commands, t terminal) error {
	cfg, err := load(c.Config)
	if err != nil {
		return err
	}
	in := t.in
	if q.File != "-" {
		f, err := os.Open(q.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return house.Restore(ctx, cfg.State, in, q.Force)
}
