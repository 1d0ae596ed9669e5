package house

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"postern/filters"
	"postern/gateway/control"
	"postern/gateway/mail"
	"postern/quarantine"
)

const keptText = "Subject: kept\r\n\r\nSecret.\r\n"

// keepOne puts a message into the quarantine.
func keepOne(t *testing.T, h *House, v mail.Verdict) string {
	t.Helper()
	m := &mail.Message{ID: mail.NewID(testTime), Received: testTime, Content: mail.Bytes(keptText)}
	m.Envelope.ReversePath = mail.Address{Local: "a", Domain: "b.example"}
	m.Parse(mail.DefaultLimits)
	v.Recipients = []mail.Address{{Local: "c", Domain: "example.com"}}
	id, err := (keeper{h.quarantine}).Keep(t.Context(), m, v)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// use makes a filter of the house's policy do as e does.
func (h *House) use(name string, e *engine) {
	p := *h.policy.Load()
	p.set = append(slices.Clone(p.set), filters.Entry{Name: name, Stage: mail.StageContent, Filter: e})
	h.policy.Store(&p)
}

func TestRelease(t *testing.T) {
	unscanned := mail.Verdict{Class: mail.ClassPolicy, Unscanned: []string{"clamav"}}
	virus := &engine{results: []mail.Result{{Symbol: "CLAMAV_VIRUS", Evidence: "Eicar"}}}
	for _, c := range []struct {
		name    string
		verdict mail.Verdict
		how     control.Release
		engine  *engine
		to      string
		err     string
	}{
		{"spam", mail.Verdict{Class: mail.ClassSpam}, control.Release{}, nil, "c@example.com", ""},
		{"to another", mail.Verdict{Class: mail.ClassSpam}, control.Release{To: "d@example.com"}, nil, "d@example.com", ""},
		{"to nobody", mail.Verdict{Class: mail.ClassSpam}, control.Release{To: "x@y@z"}, nil, "", "is no mail address"},
		{"to the null path", mail.Verdict{Class: mail.ClassSpam}, control.Release{To: "<>"}, nil, "", "is no mail address"},
		{"a virus", mail.Verdict{Class: mail.ClassVirus}, control.Release{}, nil, "", control.ErrVirus.Error()},
		{"a virus that is asked for", mail.Verdict{Class: mail.ClassVirus}, control.Release{Virus: true}, nil, "c@example.com", ""},
		{"unscanned, and nothing found", unscanned, control.Release{}, &engine{}, "c@example.com", ""},
		{"unscanned, and a virus now", unscanned, control.Release{}, virus, "", "found now"},
		{"unscanned, and still silent", unscanned, control.Release{}, &engine{err: errors.New("away")}, "", "still can't be asked"},
		{"unscanned, and the engine is no more", unscanned, control.Release{}, nil, "", "not in use any more"},
		{"unscanned, and asked for all the same", unscanned, control.Release{Virus: true}, nil, "c@example.com", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := openTestHouse(t, testConfig(t))
			defer h.Close()
			if c.engine != nil {
				h.use("clamav", c.engine)
			}
			id := keepOne(t, h, c.verdict)
			done, err := office{h}.ReleaseKept(t.Context(), id, c.how)
			kept, getErr := office{h}.KeptOne(t.Context(), id)
			if getErr != nil {
				t.Fatal(getErr)
			}
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || h.spool.Len() != 0 || len(kept.Released) != 0 {
					t.Errorf("%v, %d wait, want %q", err, h.spool.Len(), c.err)
				}
				return
			}
			if err != nil || len(done) != 1 || done[0].Recipient != c.to || len(kept.Released) != 1 || kept.Released[0].Recipient != c.to {
				t.Fatalf("done %+v, released %+v, %v", done, kept.Released, err)
			}
			// Its next hop is down: it waits, as it was received.
			it, err := h.spool.Get(h.spool.List()[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			if _, err := it.Content.WriteTo(&text); err != nil || text.String() != keptText {
				t.Errorf("%q, %v", text.String(), err)
			}
		})
	}
}

func TestOfficeSaysWhatIsMissing(t *testing.T) {
	h := openTestHouse(t, testConfig(t))
	defer h.Close()
	o, ctx := h.Office(), t.Context()
	_, release := o.ReleaseKept(ctx, "nothing", control.Release{})
	_, one := o.KeptOne(ctx, "../../etc/passwd")
	for name, err := range map[string]error{
		"release": release, "one": one, "content": o.KeptContent(ctx, "nothing", nil), "delete kept": o.DeleteKept(ctx, "nothing"),
		"retry": o.RetryQueued(ctx, "nothing"), "delete queued": o.DeleteQueued(ctx, "nothing"),
	} {
		if !errors.Is(err, control.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The list is asked for by class or by words.
func TestKept(t *testing.T) {
	h := openTestHouse(t, testConfig(t))
	defer h.Close()
	spam := keepOne(t, h, mail.Verdict{Class: mail.ClassSpam, Reason: "score 9 >= 8"})
	virus := keepOne(t, h, mail.Verdict{Class: mail.ClassVirus, Reason: "CLAMAV_VIRUS"})
	for reason, want := range map[string]string{"spam": spam, "virus": virus, "CLAMAV_VIRUS": virus, "policy": ""} {
		list, err := office{h}.Kept(t.Context(), control.KeptQuery{Reason: reason})
		if err != nil || len(list) != len(strings.Fields(want)) || want != "" && list[0].ID != want {
			t.Errorf("%s: %+v, %v", reason, list, err)
		}
	}
	// Of mail that comes out of the spool nobody knows the client.
	if e, err := h.quarantine.List(t.Context(), quarantine.Filter{}); err != nil || e[0].Client != "" || e[0].Subject != "kept" {
		t.Errorf("%+v, %v", e, err)
	}
	if err := (office{h}).DeleteKept(t.Context(), spam); err != nil {
		t.Error(err)
	}
}

// What was deleted from the queue is shown with the message.
func TestDeleteQueued(t *testing.T) {
	h := openTestHouse(t, testConfig(t))
	defer h.Close()
	if err := h.gateway.Tell(t.Context(), "subject", "text"); err != nil {
		t.Fatal(err)
	}
	o, ctx := office{h}, t.Context()
	list, err := o.Queue(ctx)
	if err != nil || len(list) != 1 || list[0].NextHop != "127.0.0.1:1" {
		t.Fatalf("%+v, %v", list, err)
	}
	id := list[0].ID
	h.records.Observe(ctx, mail.Record{ID: id, Time: testTime})
	if err := o.DeleteQueued(ctx, id); err != nil {
		t.Fatal(err)
	}
	found, err := o.Track(ctx, id)
	if err != nil || len(found) != 1 || len(found[0].Deliveries) != 1 || !strings.Contains(found[0].Deliveries[0].Reply, "deleted") {
		t.Errorf("%+v, %v", found, err)
	}
}
