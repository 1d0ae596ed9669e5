package mail

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	m := Message{Content: Bytes("Subject: x\r\n\r\ny")}
	m.Parse(Limits{})
	if m.Header.Get("Subject") != "x" || len(m.Parts) != 1 || len(m.Oddity) != 2 {
		t.Errorf("%+v", m)
	}
}

func TestProtocol(t *testing.T) {
	for _, c := range []struct {
		client Client
		utf8   bool
		want   string
	}{
		{Client{}, false, "SMTP"},
		{Client{ESMTP: true}, false, "ESMTP"},
		{Client{ESMTP: true, TLS: "x"}, false, "ESMTPS"},
		{Client{ESMTP: true}, true, "UTF8SMTP"},
		{Client{ESMTP: true, TLS: "x"}, true, "UTF8SMTPS"},
	} {
		if got := c.client.Protocol(c.utf8); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestReply(t *testing.T) {
	for _, c := range []struct {
		reply                          Reply
		text                           string
		positive, transient, permanent bool
	}{
		{Reply{}, "", false, false, false},
		{Reply{250, "2.0.0", "taken"}, "250 2.0.0 taken", true, false, false},
		{Reply{354, "", "go on"}, "354 go on", false, false, false},
		{Reply{451, "4.7.1", "later"}, "451 4.7.1 later", false, true, false},
		{Reply{550, "5.7.1", "no"}, "550 5.7.1 no", false, false, true},
	} {
		if c.reply.String() != c.text || c.reply.Positive() != c.positive || c.reply.Transient() != c.transient || c.reply.Permanent() != c.permanent {
			t.Errorf("%+v", c)
		}
	}
}

func TestID(t *testing.T) {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := NewID(now), NewID(now.Add(time.Millisecond))
	if len(a) != 22 || a >= b || NewID(now) == a || !ValidID(a) {
		t.Error(a, b)
	}
	for id, valid := range map[string]bool{
		"": false, "a": true, "a.2": true, "a.": false, ".2": false, "a/b": false, "..": false, "A": false, "a b": false, "a\x00": false,
		strings.Repeat("a", 40): true, strings.Repeat("a", 41): false, "a.b.c": false,
	} {
		if ValidID(id) != valid {
			t.Errorf("%q is valid: %v", id, !valid)
		}
	}
}

func TestAction(t *testing.T) {
	for a := Accept; a <= Reject; a++ {
		text, err := json.Marshal(a)
		var back Action
		if err != nil || json.Unmarshal(text, &back) != nil || back != a {
			t.Errorf("%v: %s %v %v", a, text, err, back)
		}
	}
	if Action(9).String() != "action(9)" {
		t.Error(Action(9))
	}
	if _, err := ParseAction("drop"); err == nil {
		t.Error("an unknown action was read")
	}
	if StageConnect.String() != "connect" || StageDerived.String() != "derived" {
		t.Error(StageConnect, StageDerived)
	}
}

func TestSpam(t *testing.T) {
	for _, c := range []struct {
		score, required float64
		want            bool
	}{{5, 5, true}, {4.9, 5, false}, {100, 0, false}} {
		if got := (Verdict{Score: c.score, Required: c.required}).Spam(); got != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// TestJSON holds the names of CONTRACT 5, which programs of others read.
func TestJSON(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{Hit{"GTUBE", 100, "a test", "XJS", "heuristics"}, `{"symbol":"GTUBE","score":100,"description":"a test","evidence":"XJS","filter":"heuristics"}`},
		{
			Attachment{Name: "x.zip", Type: "a/b", TrueType: "c/d", Size: 1, SHA256: "00", Path: "2/x.zip/y", Blocked: true, Reason: "why", Part: 3},
			`{"name":"x.zip","type":"a/b","true_type":"c/d","size":1,"sha256":"00","path":"2/x.zip/y","blocked":true,"reason":"why"}`,
		},
		{Delivery{Recipient: "b@example.com", NextHop: "h:25", Reply: "250 ok"}, `{"recipient":"b@example.com","next_hop":"h:25","time":"0001-01-01T00:00:00Z","reply":"250 ok"}`},
		{
			Record{ID: "1", Client: "192.0.2.1", HELO: "h", Recipients: []string{"b@example.com"}, Action: Tag, Hits: []Hit{}, Deliveries: []Delivery{}},
			`{"id":"1","time":"0001-01-01T00:00:00Z","client":"192.0.2.1","helo":"h","sender":"","recipients":["b@example.com"],"size":0,"stage":"","action":"tag","score":0,"required":0,"hits":[],"reply":"","deliveries":[],"elapsed_ms":0}`,
		},
	} {
		if got, err := json.Marshal(c.value); err != nil || string(got) != c.want {
			t.Errorf("%s, want %s; %v", got, c.want, err)
		}
	}
}
