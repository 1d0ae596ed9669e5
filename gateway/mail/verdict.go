package mail

import (
	"fmt"
	"time"
)

// Result is one fact that a filter found. It carries no weight of its own:
// scoring owns the weights, the gateway owns the replies.
type Result struct {
	Filter      string // "clamav"
	Symbol      string // "CLAMAV_VIRUS"; "" only informs and is never weighed
	Description string // one sentence for the admin; never sent to a client
	Evidence    string // what was seen: a signature's name, the octets that matched; bounded, printable
	Points      float64
	HasPoints   bool // Points is a proposal, as spamd or a rule file brings it; scoring may know better

	// Attachment is the part or the container's member that the fact is about.
	Attachment *Attachment

	// Recipients that the fact holds for; none is all.
	Recipients []Address

	// Fault and Err are set where the filter could not tell. Symbol is then
	// empty for FaultEngine and a …_LIMIT or …_UNSCANNABLE for FaultMessage.
	Fault Fault
	Err   error // for the log
}

// Fault says whose an error is.
type Fault int

// The owners of an error.
const (
	FaultNone    Fault = iota
	FaultEngine        // can't be reached, busy, starting, timed out, panicked: the filter's on_error decides
	FaultMessage       // over a limit, unreadable: a fact that policy holds, never a defer that comes back for ever
)

// Attachment is a part that a mail client would offer to save, or a member of a
// container among them.
type Attachment struct {
	Name     string `json:"name"`
	Type     string `json:"type"`      // as claimed
	TrueType string `json:"true_type"` // by content
	Size     int64  `json:"size"`      // decoded octets
	SHA256   string `json:"sha256"`
	Path     string `json:"path"` // "2", or "2/invoice.zip/run.exe"
	Blocked  bool   `json:"blocked"`
	Reason   string `json:"reason"` // why it is blocked, in plain words
	Part     int    `json:"-"`      // index in Message.Parts of the part that holds it
}

// Action is what becomes of a message for a group of recipients. A higher one
// outweighs a lower one.
type Action int

// The actions, mildest first.
const (
	Accept Action = iota
	Tag
	Strip
	Defer
	Quarantine
	Reject
)

var actionNames = [...]string{"accept", "tag", "strip", "defer", "quarantine", "reject"}

// String is the action's name in configuration, records and JSON.
func (a Action) String() string {
	if a < Accept || a > Reject {
		return fmt.Sprintf("action(%d)", int(a))
	}
	return actionNames[a]
}

// ParseAction reads an action's name.
func ParseAction(s string) (Action, error) {
	for i, name := range actionNames {
		if s == name {
			return Action(i), nil
		}
	}
	return Accept, fmt.Errorf("unknown action %q", s)
}

// MarshalText writes the action's name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the action's name.
func (a *Action) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAction(string(b))
	return err
}

// Class says why a message is kept, and so who may release it.
type Class string

// The classes of the quarantine.
const (
	ClassSpam          Class = "spam"
	ClassVirus         Class = "virus"
	ClassAttachment    Class = "attachment"
	ClassPolicy        Class = "policy"
	ClassUndeliverable Class = "undeliverable"
)

// Hit is a fact with its weight.
type Hit struct {
	Symbol      string  `json:"symbol"`
	Score       float64 `json:"score"`
	Description string  `json:"description"`
	Evidence    string  `json:"evidence"`
	Filter      string  `json:"filter"`
}

// Verdict is what policy says of a message for one group of recipients.
type Verdict struct {
	Recipients []Address
	Action     Action
	Class      Class  // why it is kept; "" unless Action is Strip, Quarantine or Reject
	Reason     string // the symbol or the threshold that decided, for log and quarantine
	Score      float64
	Required   float64 // the tag threshold; 0 is never
	SubjectTag string  // "[SPAM] "; "" is off. To be applied only where Spam()
	Hits       []Hit   // in catalogue order
	Strip      []Attachment
	Unscanned  []string // engines that were silent
}

// Spam says that the score reached the tag threshold, whatever the action is.
func (v Verdict) Spam() bool { return v.Required > 0 && v.Score >= v.Required }

// Record is what is remembered of a message, or of a refusal before DATA. It
// holds enough to judge again under other weights.
type Record struct {
	ID          string       `json:"id"`
	Time        time.Time    `json:"time"`
	Client      string       `json:"client"` // IP address
	HELO        string       `json:"helo"`
	TLS         string       `json:"tls,omitempty"`
	Sender      string       `json:"sender"` // "" is the null reverse-path
	Recipients  []string     `json:"recipients"`
	Subject     string       `json:"subject,omitempty"` // decoded
	MessageID   string       `json:"message_id,omitempty"`
	Size        int64        `json:"size"` // octets; 0 before DATA
	Stage       string       `json:"stage"`
	Action      Action       `json:"action"` // the strongest of all groups
	Reason      string       `json:"reason,omitempty"`
	Score       float64      `json:"score"`
	Required    float64      `json:"required"`
	Hits        []Hit        `json:"hits"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Unscanned   []string     `json:"unscanned,omitempty"`
	Reply       string       `json:"reply"`
	Count       int          `json:"count,omitempty"` // refusals that this record sums; 0 is one
	Deliveries  []Delivery   `json:"deliveries"`
	ElapsedMS   float64      `json:"elapsed_ms"` // final dot to reply
}

// Delivery is one attempt for one recipient.
type Delivery struct {
	Recipient string    `json:"recipient"`
	NextHop   string    `json:"next_hop"`
	Time      time.Time `json:"time"`
	Reply     string    `json:"reply"`
}
