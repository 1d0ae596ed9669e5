// Command postern is an inbound mail gateway: it takes a company's mail from the
// Internet, judges it, and hands it on, keeps it, or refuses it.
//
// A reader goes from here to serve.go and house.Start, where the gateway is
// assembled, and from there to gateway.Process, where a message is dealt with.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"postern/cmd/postern/house"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Config string `help:"The configuration file; ${default} where none is named." default:"/etc/postern/postern.toml" placeholder:"FILE" type:"path"`

	Serve      serveCommand      `cmd:"" help:"Run the gateway in the foreground."`
	Check      checkCommand      `cmd:"" help:"Say what is wrong in the configuration."`
	Demo       demoCommand       `cmd:"" help:"Show the gateway at work, with no set-up."`
	Scan       scanCommand       `cmd:"" help:"Judge messages from files without delivering them."`
	Quarantine quarantineCommand `cmd:"" help:"List, show, release and delete kept mail."`
	Queue      queueCommand      `cmd:"" help:"List, show, retry and delete mail that waits for its next hop."`
	Track      trackCommand      `cmd:"" help:"Say what became of a message, refused ones too."`
	Backup     backupCommand     `cmd:"" help:"Write everything worth keeping into one file, while the gateway runs."`
	Restore    restoreCommand    `cmd:"" help:"Put a backup back."`
	Version    versionCommand    `cmd:"" help:"Say which version this is."`
}

// terminal is where a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

// exitError ends the process with a code of its own, and says nothing more.
type exitError int

// Error implements error.
func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], terminal{os.Stdin, os.Stdout, os.Stderr}))
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, t terminal) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("postern"),
		kong.Description("Postern takes a company's mail from the Internet, judges it, and hands it on, keeps it, or refuses it."),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Writers(t.out, t.err), kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(&c, t),
	)
	if err != nil {
		return fail(t, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		return fail(t, house.Advise(err, "postern --help lists the commands, postern COMMAND --help says more"))
	}
	return fail(t, parsed.Run())
}

// fail says what happened, and the exit code for it.
func fail(t terminal, err error) int {
	var exit exitError
	var hint house.Hint
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintln(t.err, "postern:", err)
	if errors.As(err, &hint) {
		fmt.Fprintln(t.err, "postern: hint:", hint.Text)
	}
	return 1
}
