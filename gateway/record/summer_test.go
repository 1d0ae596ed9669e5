package record

import (
	"fmt"
	"testing"
	"time"

	"postern/gateway/mail"
)

func refusal(client, reason string) mail.Record {
	return mail.Record{Client: client, Reason: reason, Recipients: []string{"x@example.com"}}
}

func TestSummerFirstTen(t *testing.T) {
	var s Summer
	for i := range sumAfter {
		if !s.Add(refusal("192.0.2.1", "a"), noon) {
			t.Errorf("refusal %d was summed", i)
		}
	}
	if got := s.Due(noon.Add(sumPeriod - 1)); len(got) != 0 {
		t.Errorf("a sum before its minute ended: %v", got)
	}
	last := refusal("192.0.2.1", "a")
	last.ID, last.Recipients = "eleventh", []string{"y@example.com"}
	for range 5 {
		if s.Add(last, noon.Add(time.Second)) {
			t.Error("kept beyond ten")
		}
	}
	if got := s.Due(noon.Add(sumPeriod - 1)); len(got) != 0 {
		t.Errorf("a sum before its minute ended: %v", got)
	}
	got := s.Due(noon.Add(sumPeriod))
	if len(got) != 1 || got[0].Count != 5 || got[0].ID != "eleventh" || len(got[0].Recipients) != 1 {
		t.Errorf("got %+v", got)
	}
	if !s.Add(refusal("192.0.2.1", "a"), noon.Add(sumPeriod)) {
		t.Error("the next minute did not begin anew")
	}
}

// Without anything beyond ten nothing is written when the minute ends, and
// nothing is remembered.
func TestSummerForgets(t *testing.T) {
	var s Summer
	s.Add(refusal("192.0.2.1", "a"), noon)
	if got := s.Due(noon.Add(sumPeriod)); len(got) != 0 || len(s.counts) != 0 {
		t.Errorf("%v, %d left", got, len(s.counts))
	}
	s.Add(refusal("192.0.2.1", "a"), noon)
	s.Due(noon.Add(-time.Hour)) // the clock was set back
	if len(s.counts) != 0 {
		t.Error("a clock that was set back keeps a sum for ever")
	}
}

func TestSummerKeys(t *testing.T) {
	tests := []struct {
		name string
		a, b mail.Record
		same bool
	}{
		{"equal", refusal("192.0.2.1", "a"), refusal("192.0.2.1", "a"), true},
		{"client", refusal("192.0.2.1", "a"), refusal("192.0.2.2", "a"), false},
		{"reason", refusal("192.0.2.1", "a"), refusal("192.0.2.1", "b"), false},
		{"mapped", refusal("192.0.2.1", "a"), refusal("::ffff:192.0.2.1", "a"), true},
		{"same /64", refusal("2001:db8::1", "a"), refusal("2001:db8::ffff:2", "a"), true},
		{"other /64", refusal("2001:db8::1", "a"), refusal("2001:db8:0:1::1", "a"), false},
		{"no address", refusal("unknown", "a"), refusal("unknown", "a"), true},
		{"ids in replies", mail.Record{Reply: "550 5.1.1 no such user, id 1"}, mail.Record{Reply: "550 5.1.1 no such user, id 2"}, true},
		{"other replies", mail.Record{Reply: "550 5.1.1 no"}, mail.Record{Reply: "550 5.7.1 no"}, false},
	}
	for _, tt := range tests {
		var s Summer
		for range sumAfter {
			s.Add(tt.a, noon)
		}
		if summed := !s.Add(tt.b, noon); summed != tt.same {
			t.Errorf("%s: summed %v", tt.name, summed)
		}
	}
}

func TestSummerBounds(t *testing.T) {
	var s Summer
	for i := range sumKeys + 10 {
		s.Add(refusal(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), "a"), noon)
	}
	if len(s.counts) != sumKeys {
		t.Errorf("%d keys", len(s.counts))
	}
	s = Summer{}
	for i := range sumAfter + sumRecipients + 10 {
		r := refusal("192.0.2.1", "a")
		r.Recipients = []string{fmt.Sprintf("x%d@example.com", i)}
		s.Add(r, noon)
	}
	got := s.Rest()
	if len(got) != 1 || len(got[0].Recipients) != sumRecipients || got[0].Count != sumRecipients+10 {
		t.Errorf("%d sums", len(got))
	}
}
