package scoring

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/gateway/mail"
)

// usual is the default of the configuration.
var usual = Policy{Tag: 5, Quarantine: 8, Reject: 15, Greylist: 4, SubjectTag: "[SPAM] "}

func mustNew(t testing.TB, def Policy, domains map[string]Policy) *Scoring {
	t.Helper()
	s, err := New(def, domains)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addresses(t testing.TB, list string) (all []mail.Address) {
	t.Helper()
	for s := range strings.FieldsSeq(list) {
		all = append(all, address(t, s))
	}
	return all
}

// fact is a result that proposes points.
func fact(symbol string, points float64) mail.Result {
	return mail.Result{Filter: "test", Symbol: symbol, Points: points, HasPoints: true}
}

func attachment(part int, path string) mail.Result {
	return mail.Result{
		Filter: "attachments", Symbol: "ATTACHMENT_BLOCKED",
		Attachment: &mail.Attachment{Name: path, Path: path, Part: part, Blocked: true},
	}
}

func silent(filter string) mail.Result {
	return mail.Result{Filter: filter, Fault: mail.FaultEngine, Err: errors.New("refused")}
}

// TestAction has one line a sentence of what decides for one recipient. Want is
// action, class, reason.
func TestAction(t *testing.T) {
	deferring := usual
	deferring.OnError = map[string]mail.Action{"clamav": mail.Defer}
	refusing := usual
	refusing.Actions = map[string]mail.Action{"CLAMAV_VIRUS": mail.Reject, "ATTACHMENT_BLOCKED": mail.Quarantine, "CLAMAV_LIMIT": mail.Accept}
	never := Policy{}

	virus := mail.Result{Filter: "clamav", Symbol: "CLAMAV_VIRUS"}
	limit := mail.Result{Filter: "clamav", Symbol: "CLAMAV_LIMIT", Fault: mail.FaultMessage}
	for name, c := range map[string]struct {
		policy  Policy
		results []mail.Result
		want    string
	}{
		"nothing":                      {usual, nil, "accept||"},
		"under tag":                    {usual, []mail.Result{fact("A", 4.999)}, "accept||"},
		"at tag":                       {usual, []mail.Result{fact("A", 5)}, "tag||score 5.0 >= 5.0"},
		"under quarantine":             {usual, []mail.Result{fact("A", 7.999)}, "tag||score 7.999 >= 5.0"},
		"at quarantine":                {usual, []mail.Result{fact("A", 8)}, "quarantine|spam|score 8.0 >= 8.0"},
		"at reject":                    {usual, []mail.Result{fact("A", 15)}, "reject|spam|score 15.0 >= 15.0"},
		"summed":                       {usual, []mail.Result{fact("A", 3.2), fact("B", 5.2)}, "quarantine|spam|score 8.4 >= 8.0"},
		"tenths":                       {usual, tenths(50), "tag||score 5.0 >= 5.0"},
		"one tenth less":               {usual, tenths(49), "accept||"},
		"negative helps":               {usual, []mail.Result{fact("A", 6), fact("B", -1.1)}, "accept||"},
		"0 is never":                   {never, []mail.Result{fact("A", 1e6)}, "accept||"},
		"GTUBE":                        {usual, []mail.Result{{Filter: "heuristics", Symbol: "GTUBE"}}, "reject|spam|score 1000.0 >= 15.0"},
		"virus":                        {usual, []mail.Result{virus}, "quarantine|virus|CLAMAV_VIRUS"},
		"virus without thresholds":     {never, []mail.Result{virus}, "quarantine|virus|CLAMAV_VIRUS"},
		"virus where refused":          {refusing, []mail.Result{virus}, "reject|virus|CLAMAV_VIRUS"},
		"virus beats spam":             {usual, []mail.Result{fact("A", 9), virus}, "quarantine|virus|CLAMAV_VIRUS"},
		"virus beats attachment":       {refusing, []mail.Result{attachment(1, "2"), {Symbol: "EICAR"}}, "quarantine|virus|EICAR"},
		"attachment beats policy":      {refusing, []mail.Result{{Symbol: "ATTACHMENT_LIMIT"}, attachment(1, "2")}, "quarantine|attachment|ATTACHMENT_BLOCKED"},
		"policy beats spam":            {usual, []mail.Result{fact("A", 9), limit}, "quarantine|policy|CLAMAV_LIMIT"},
		"spam at reject beats virus":   {usual, []mail.Result{fact("A", 15), virus}, "reject|spam|score 15.0 >= 15.0"},
		"first of equals":              {usual, []mail.Result{virus, {Symbol: "EICAR"}}, "quarantine|virus|CLAMAV_VIRUS"},
		"strip":                        {usual, []mail.Result{attachment(1, "2")}, "strip|attachment|ATTACHMENT_BLOCKED"},
		"strip and spam":               {usual, []mail.Result{fact("A", 6), attachment(1, "2")}, "strip|attachment|ATTACHMENT_BLOCKED"},
		"nothing to strip":             {usual, []mail.Result{{Symbol: "ATTACHMENT_BLOCKED"}}, "quarantine|attachment|ATTACHMENT_BLOCKED"},
		"built-in action taken away":   {refusing, []mail.Result{limit}, "accept||"},
		"unknown limit is held":        {usual, []mail.Result{{Filter: "x", Symbol: "X_LIMIT", Fault: mail.FaultMessage}}, "quarantine|policy|X_LIMIT"},
		"a rule's name is no limit":    {usual, []mail.Result{{Filter: "rules", Symbol: "OVER_LIMIT"}}, "accept||"},
		"unreadable without a name":    {usual, []mail.Result{{Filter: "x", Fault: mail.FaultMessage}}, "quarantine|policy|X_UNSCANNABLE"},
		"silent engine, on_error":      {deferring, []mail.Result{silent("clamav")}, "defer||clamav did not answer"},
		"silent engine, ignored":       {usual, []mail.Result{silent("clamav")}, "accept||"},
		"other engine silent":          {deferring, []mail.Result{silent("spamassassin")}, "accept||"},
		"defer beats strip":            {deferring, []mail.Result{attachment(1, "2"), silent("clamav")}, "defer||clamav did not answer"},
		"quarantine beats defer":       {deferring, []mail.Result{silent("clamav"), fact("A", 8)}, "quarantine|spam|score 8.0 >= 8.0"},
		"only informs":                 {usual, []mail.Result{fact("", 100)}, "accept||"},
		"NaN proposed":                 {usual, []mail.Result{fact("A", math.NaN()), fact("B", 5)}, "tag||score 5.0 >= 5.0"},
		"infinity proposed is bounded": {usual, []mail.Result{fact("A", math.Inf(1)), fact("B", -1e6)}, "accept||"},
	} {
		t.Run(name, func(t *testing.T) {
			v := mustNew(t, c.policy, nil).Judge(c.results, addresses(t, "a@example.com"))[0]
			if got := fmt.Sprintf("%s|%s|%s", v.Action, v.Class, v.Reason); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func tenths(n int) (all []mail.Result) {
	for i := range n {
		all = append(all, fact(fmt.Sprint("T", i), 0.1))
	}
	return all
}

// TestWeight says whose weight counts.
func TestWeight(t *testing.T) {
	def := Policy{Symbols: map[string]float64{"SET": 2, "GTUBE": 100, "BOTH": 1, "OFF": 0}}
	domain := Policy{Symbols: map[string]float64{"BOTH": 3, "OWN": 4}}
	s := mustNew(t, def, map[string]Policy{"own.example": domain})
	for _, c := range []struct {
		result   mail.Result
		want     float64
		inDomain float64
	}{
		{mail.Result{Symbol: "UNKNOWN"}, 0, 0},
		{fact("PROPOSED", 1.5), 1.5, 1.5},
		{mail.Result{Symbol: "NOT_PROPOSED", Points: 9}, 0, 0},
		{fact("CLAMAV_PUA", 50), 3, 3},
		{fact("GTUBE", 999), 100, 100},
		{fact("SET", 9), 2, 2},
		{fact("OFF", 9), 0, 0},
		{mail.Result{Symbol: "BOTH"}, 1, 3},
		{mail.Result{Symbol: "OWN"}, 0, 4},
		{fact("MILLI", 0.1234), 0.123, 0.123},
	} {
		vs := s.Judge([]mail.Result{c.result}, addresses(t, "a@example.com b@OWN.example"))
		if len(vs) != 2 || vs[0].Score != c.want || vs[1].Score != c.inDomain {
			t.Errorf("%s: got %v", c.result.Symbol, vs)
		}
	}
}

// TestVerdict holds the fields that Judge fills beside the action.
func TestVerdict(t *testing.T) {
	results := []mail.Result{
		{Filter: "heuristics", Symbol: "GTUBE_LIKE", Description: "looks odd", Evidence: "x"},
		{Filter: "spamassassin", Symbol: "HTML_MESSAGE", Points: 0.1, HasPoints: true},
		{Filter: "rules", Symbol: "HTML_MESSAGE", Points: 7, HasPoints: true, Evidence: "of another filter"},
		attachment(1, "2"), attachment(3, "4/x.zip/y.exe"), attachment(3, "4/x.zip/y.exe"),
		{Filter: "attachments", Attachment: &mail.Attachment{Name: "harmless.pdf", Part: 5}},
		fact("BAD", 5.3), silent("clamav"), silent("clamav"), silent("icap"),
	}
	results[3].Evidence, results[4].Evidence, results[5].Evidence = "a.exe", "y.exe", "y.exe"
	got := mustNew(t, usual, nil).Judge(results, addresses(t, "a@example.com b@example.org"))
	want := []mail.Verdict{{
		Recipients: addresses(t, "a@example.com b@example.org"),
		Action:     mail.Strip, Class: mail.ClassAttachment, Reason: "ATTACHMENT_BLOCKED",
		Score: 5.4, Required: 5, SubjectTag: "[SPAM] ",
		Hits: []mail.Hit{
			{Symbol: "GTUBE_LIKE", Description: "looks odd", Evidence: "x", Filter: "heuristics"},
			{Symbol: "HTML_MESSAGE", Score: 0.1, Filter: "spamassassin"},
			{Symbol: "ATTACHMENT_BLOCKED", Evidence: "a.exe, y.exe", Filter: "attachments"},
			{Symbol: "BAD", Score: 5.3, Filter: "test"},
		},
		Strip:     []mail.Attachment{*results[3].Attachment, *results[4].Attachment},
		Unscanned: []string{"clamav", "icap"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !got[0].Spam() {
		t.Error("not marked as spam")
	}
}

// Strip is an instruction for the delivered copy: what is held is kept whole.
func TestNoStripWhenHeld(t *testing.T) {
	v := mustNew(t, usual, nil).Judge([]mail.Result{attachment(1, "2"), fact("A", 9)}, nil)[0]
	if v.Action != mail.Quarantine || v.Strip != nil {
		t.Errorf("got %v, strip %v", v.Action, v.Strip)
	}
}

func TestHitsAreBounded(t *testing.T) {
	for _, n := range []int{maxHits, maxHits + 1} {
		results := append(tenths(n), tenths(n)...)
		v := mustNew(t, usual, nil).Judge(results, nil)[0]
		if len(v.Hits) != maxHits || v.Score != math.Round(float64(n))/10 {
			t.Errorf("%d facts: %d hits, score %v", n, len(v.Hits), v.Score)
		}
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	var results []mail.Result
	for i := range 100 {
		results = append(results, mail.Result{Filter: "f", Symbol: "S", Evidence: fmt.Sprintf("evidence %d", i)})
	}
	h := mustNew(t, usual, nil).Judge(results, nil)[0].Hits[0]
	if len(h.Evidence) > maxEvidence || !strings.HasPrefix(h.Evidence, "evidence 0, evidence 1, ") {
		t.Errorf("%d octets: %s", len(h.Evidence), h.Evidence)
	}
}

// TestGroups: want is the recipients of each verdict and its score.
func TestGroups(t *testing.T) {
	strict := usual
	strict.Tag = 3
	s := mustNew(t, usual, map[string]Policy{"strict.example": strict, "Strict.Example.NET": strict, "usual.example": usual})
	only := func(points float64, who string) mail.Result {
		r := fact("LIST_"+who, points)
		r.Recipients = addresses(t, who)
		return r
	}
	for name, c := range map[string]struct {
		results    []mail.Result
		recipients string
		want       string
	}{
		"one policy":                {nil, "a@x.example b@y.example c@usual.example", "[a@x.example b@y.example c@usual.example]=0"},
		"two policies":              {nil, "a@x.example b@strict.example c@x.example", "[a@x.example c@x.example]=0 [b@strict.example]=0"},
		"two domains, equal policy": {nil, "a@strict.example b@strict.example.net", "[a@strict.example b@strict.example.net]=0"},
		"case of the domain":        {nil, "a@STRICT.example b@strict.EXAMPLE", "[a@STRICT.example b@strict.EXAMPLE]=0"},
		"a result for one":          {[]mail.Result{only(2, "b@x.example"), fact("ALL", 1)}, "a@x.example B@X.EXAMPLE c@x.example", "[a@x.example c@x.example]=1 [B@X.EXAMPLE]=3"},
		"a result for a stranger":   {[]mail.Result{only(2, "z@x.example")}, "a@x.example b@x.example", "[a@x.example b@x.example]=0"},
		"bare postmaster":           {nil, "postmaster a@x.example", "[postmaster a@x.example]=0"},
		"twice the same":            {nil, "a@x.example a@x.example", "[a@x.example a@x.example]=0"},
		"nobody":                    {[]mail.Result{only(2, "a@x.example"), fact("ALL", 1)}, "", "[]=1"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range s.Judge(c.results, addresses(t, c.recipients)) {
				got = append(got, fmt.Sprintf("%v=%v", v.Recipients, v.Score))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestNew: each fault that New must name, several at once.
func TestNew(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		policy Policy
		want   []string // parts of the error; none is no error
	}{
		"zero":               {Policy{}, nil},
		"usual":              {usual, nil},
		"equal":              {Policy{Tag: 5, Quarantine: 5, Reject: 5}, nil},
		"only reject":        {Policy{Reject: 1}, nil},
		"smallest":           {Policy{Tag: 0.001}, nil},
		"too small":          {Policy{Tag: 0.0009}, []string{"tag is 0.0009"}},
		"largest":            {Policy{Reject: maxPoints}, nil},
		"too large":          {Policy{Reject: maxPoints + 1}, []string{"reject is"}},
		"tag over reject":    {Policy{Tag: 9, Reject: 8}, []string{"reject is 8, under tag, which is 9"}},
		"order twice":        {Policy{Tag: 9, Quarantine: 8, Reject: 7}, []string{"quarantine is 8, under tag", "reject is 7, under quarantine"}},
		"negative":           {Policy{Tag: -1, Greylist: -2}, []string{"tag is -1", "greylist is -2"}},
		"NaN":                {Policy{Tag: nan, Quarantine: nan, Reject: nan, Greylist: nan}, []string{"tag is NaN", "quarantine is NaN", "reject is NaN", "greylist is NaN"}},
		"infinite":           {Policy{Reject: math.Inf(1)}, []string{"reject is +Inf"}},
		"weights":            {Policy{Symbols: map[string]float64{"A": nan, "B": math.Inf(-1), "C": maxPoints + 1, "": 1, "D": -maxPoints}}, []string{`"A" = NaN`, `"B" = -Inf`, `"C" = 1.000001e+06`, `"" = 1`}},
		"actions":            {Policy{Actions: map[string]mail.Action{"A": mail.Tag, "B": 99, "C": -1, "D": mail.Reject}}, []string{"actions: A = tag", "actions: B = action(99)", "actions: C = action(-1)"}},
		"on error":           {Policy{OnError: map[string]mail.Action{"clamav": mail.Quarantine, "icap": mail.Defer, "x": mail.Accept}}, []string{"on_error of clamav is quarantine"}},
		"percent in a label": {Policy{Actions: map[string]mail.Action{"%d": mail.Tag}}, []string{"actions: %d = tag"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.policy, nil)
			checkFaults(t, err, c.want)
			_, err = New(usual, map[string]Policy{"Bad.example": c.policy})
			for i := range c.want {
				c.want[i] = "domain bad.example: " + strings.Replace(c.want[i], `"`, `symbols: "`, 1)
			}
			if !strings.Contains(name, "weights") {
				checkFaults(t, err, c.want)
			}
		})
	}
	_, err := New(usual, map[string]Policy{"a.example": {}, "A.example": {}})
	checkFaults(t, err, []string{"domain a.example: named twice"})
}

func checkFaults(t *testing.T, err error, want []string) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Errorf("unexpected: %v", err)
		}
		return
	}
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != len(want) {
		t.Errorf("%d faults, want %d: %v", n, len(want), err)
	}
}

// The caller's maps stay the caller's.
func TestNewCopies(t *testing.T) {
	p := Policy{Symbols: map[string]float64{"A": 1}}
	s := mustNew(t, p, nil)
	p.Symbols["A"] = 9
	if v := s.Judge([]mail.Result{{Symbol: "A"}}, nil)[0]; v.Score != 1 {
		t.Errorf("score %v", v.Score)
	}
}

// TestBuiltin keeps the table in order: every line finite, every action one that
// New would take, a class where something is kept.
func TestBuiltin(t *testing.T) {
	for symbol, w := range Builtin() {
		if !validAction(w.Action) || (w.Action != mail.Accept) != (w.Class != "") || math.Abs(w.Score) > 1000 {
			t.Errorf("%s: %+v", symbol, w)
		}
		if strings.HasSuffix(symbol, "_LIMIT") && w.Action != mail.Quarantine {
			t.Errorf("%s is not held", symbol)
		}
	}
	if Builtin()["CLAMAV_VIRUS"].Class != mail.ClassVirus {
		t.Error("a virus is not of class virus")
	}
}

// Every oddity of the reader has a line; two are reported under other names.
func TestOdditiesHaveWeights(t *testing.T) {
	for _, symbol := range mail.OdditySymbols() {
		if _, ok := builtin[symbol]; !ok && symbol != mail.HeaderMissingFrom && symbol != mail.HeaderMissingDate {
			t.Errorf("%s has no line", symbol)
		}
	}
}
