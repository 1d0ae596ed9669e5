// Package filters runs the filters of one stage at once and collects what they
// found. Which filters there are is for who assembles the gateway to say; each
// one is a folder below, and none of them knows another.
//
// The package knows nothing of SMTP, of weights, of actions.
package filters

import (
	"context"
	"time"

	"postern/gateway/mail"
)

// Filter reports what it found in a message: facts, without a verdict.
//
// Check may be called by several goroutines at once, with different messages or
// with the same. It must not change m or earlier, which others read at the same
// time, nor keep them. It must stop soon after ctx is done; a filter that does
// not is no longer waited for, and what it finds later is dropped.
//
// Before StageContent m has no content, and Check must bear that as well as an
// empty content or a broken one.
//
// An error means that the filter could not tell, for a reason that is not the
// message's: its engine is away or slow. What it found before that may stand
// beside the error. Where the message is at fault (over a limit, unreadable, the
// engine dies of it) that is a Result with FaultMessage, since an error would
// bring the message back for ever.
type Filter interface {
	Check(ctx context.Context, m *mail.Message, earlier []mail.Result) ([]mail.Result, error)
}

// Entry is one line of the catalogue. A filter that looks at two stages stands
// in it twice.
type Entry struct {
	Name    string // stands in Result.Filter, in configuration and logs
	Stage   mail.Stage
	Timeout time.Duration // of one Check; 0 is as long as the caller's context allows
	Filter  Filter
}

// Set is the catalogue. Its order is the order of results.
type Set []Entry
