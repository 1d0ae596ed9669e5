// Package control is the socket by which commands reach the gateway that runs:
// HTTP and JSON over a Unix socket in the state folder, which only its owner may
// open. What is done is handed in as an Office; the client is an Office too, so a
// command does not care whether it works through the socket or by itself.
package control

import (
	"context"
	"errors"
	"io"
	"time"

	"postern/gateway/health"
	"postern/gateway/mail"
)

// ErrNotFound says that there is nothing of that id.
var ErrNotFound = errors.New("not found")

// ErrVirus says that a kept virus is released only when that is asked for.
var ErrVirus = errors.New("holds a virus")

// Queued is a message that waits for its next hop.
type Queued struct {
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	Sender     string    `json:"sender"`
	Recipients []string  `json:"recipients"`
	NextHop    string    `json:"next_hop"`
	Attempts   int       `json:"attempts"`
	Next       time.Time `json:"next"`
	LastReply  string    `json:"last_reply"`
	Subject    string    `json:"subject,omitempty"`
	Size       int64     `json:"size,omitempty"`
	Held       bool      `json:"held,omitempty"` // the answer to a final dot is still out
}

// Kept is a message in the quarantine.
type Kept struct {
	ID         string          `json:"id"`
	Time       time.Time       `json:"time"`
	Sender     string          `json:"sender"`
	Recipients []string        `json:"recipients"`
	Subject    string          `json:"subject"`
	Size       int64           `json:"size"`
	Class      mail.Class      `json:"class"`
	Reason     string          `json:"reason"`
	Symbols    []string        `json:"symbols"`
	Score      float64         `json:"score"`
	Unscanned  []string        `json:"unscanned,omitempty"`
	Released   []mail.Delivery `json:"released,omitempty"`
}

// KeptQuery picks from the quarantine; zero fields pick all.
type KeptQuery struct {
	Recipient string    `json:"recipient,omitempty"`
	Sender    string    `json:"sender,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Reason    string    `json:"reason,omitempty"` // a class, or a part of the reason
	Limit     int       `json:"limit,omitempty"`
}

// Release says how a kept message is to be let go.
type Release struct {
	To    string `json:"to,omitempty"`    // instead of its recipients
	Virus bool   `json:"virus,omitempty"` // although it holds one
}

// Office is what the commands ask for.
type Office interface {
	Queue(ctx context.Context) ([]Queued, error)
	RetryQueued(ctx context.Context, id string) error // "" is all
	DeleteQueued(ctx context.Context, id string) error

	Kept(ctx context.Context, q KeptQuery) ([]Kept, error)
	KeptOne(ctx context.Context, id string) (Kept, error)
	KeptContent(ctx context.Context, id string, w io.Writer) error
	ReleaseKept(ctx context.Context, id string, r Release) ([]mail.Delivery, error)
	DeleteKept(ctx context.Context, id string) error

	Track(ctx context.Context, query string) ([]mail.Record, error)
	Health(ctx context.Context) ([]health.Fact, error)
	Backup(ctx context.Context, w io.Writer) error
}
