// Command postern-bench measures how fast mail passes through Postern, beside
// Postfix as a bare relay and beside the least that a hop in Go can cost, all in
// one run: it sends mail itself (RFC 5321, with PIPELINING) and is the server
// inside that receives it, so that each message is seen to come out once.
//
// It knows nothing of Postern's packages: it starts ./postern and speaks SMTP.
// Which figures it makes and how they are to be read is in docs/performance.md.
// It runs on Linux only, since it reads /proc.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"postern/cmd/postern-bench/traffic"
)

// plannedMean is the mean size in octets of the mail that Postern's aims were
// set with.
const plannedMean = 34_000

// options are the flags.
type options struct {
	Mail        string        `help:"Measure with the messages in the files below this folder." placeholder:"DIR" type:"existingdir"`
	Corpus      string        `help:"Without --mail: a folder of .tar.xz archives with messages. None there: messages are made." default:"../shared/corpus" placeholder:"DIR" type:"path"`
	Mean        int           `help:"Replace some messages by ones with an attachment until the mean size in octets is this; 0 takes the mail as it is. Default: 34000, with --mail 0." default:"-1" placeholder:"OCTETS"`
	N           int           `name:"n" help:"Messages in a round." default:"2000"`
	Concurrency []int         `name:"c" help:"Sessions at once." default:"1,8,32"`
	Rounds      int           `help:"Rounds of each." default:"3"`
	Reuse       int           `help:"Messages in one connection." default:"1"`
	Peers       []string      `help:"What to measure." default:"postern,postfix,hop"`
	Postern     string        `help:"The gateway." default:"./postern" type:"path" placeholder:"FILE"`
	Extra       string        `help:"Lines for the end of Postern's configuration, such as [filters.clamav]." type:"existingfile" placeholder:"FILE"`
	Memory      bool          `help:"Measure memory instead: 1,000 idle sessions, 50 messages of 50 MB at once."`
	Temp        string        `help:"Where state and queues lie while it runs." placeholder:"DIR"`
	JSON        string        `name:"json" help:"Write the figures there, too." placeholder:"FILE" type:"path"`
	Settle      time.Duration `help:"What a server is given after a round for its work behind the mail (records, queue files), so that its CPU counts too." default:"1s"`
	Hop         string        `hidden:"" help:"Be the bare hop: listen there, in front of --inside."`
	Inside      string        `hidden:"" help:"The server inside of the bare hop."`
}

// terminal is where the program writes.
type terminal struct{ out, err io.Writer }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], terminal{os.Stdout, os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, "postern-bench:", err)
		stop()
		os.Exit(1)
	}
}

// run carries out one command line.
func run(ctx context.Context, args []string, t terminal) error {
	var o options
	exited := false
	parser, err := kong.New(&o, kong.Name("postern-bench"),
		kong.Description("How fast mail passes through Postern, beside a bare Postfix and a bare hop."),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Writers(t.out, t.err), kong.Exit(func(int) { exited = true }))
	if err != nil {
		return err
	}
	if _, err = parser.Parse(args); err != nil || exited {
		return err
	}
	if o.Hop != "" {
		return traffic.ServeHop(ctx, o.Hop, o.Inside)
	}
	return o.measure(ctx, t)
}

// Validate is called when the flags are read.
func (o options) Validate() error {
	if o.N < 1 || o.Rounds < 1 || o.Reuse < 1 || len(o.Peers) == 0 || len(o.Concurrency) == 0 {
		return errors.New("--n, --rounds, --reuse, --c and --peers must be at least one")
	}
	for _, c := range o.Concurrency {
		if c < 1 {
			return errors.New("--c must be at least one")
		}
	}
	return nil
}

// measure measures and reports.
func (o options) measure(ctx context.Context, t terminal) (err error) {
	b, err := newBench(o, t.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var r *report
	if o.Memory {
		r = newReport(b)
		r.Memory, err = b.measureMemory(ctx)
	} else {
		r, err = b.run(ctx)
	}
	if err != nil {
		return err
	}
	r.write(t.out)
	if o.JSON != "" {
		if err := r.save(o.JSON); err != nil {
			return err
		}
	}
	return r.fault()
}
