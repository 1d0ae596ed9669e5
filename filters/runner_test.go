package filters

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/gateway/mail"
)

// fake is a filter that does what a test wants.
type fake func(ctx context.Context, earlier []mail.Result) ([]mail.Result, error)

func (f fake) Check(ctx context.Context, _ *mail.Message, earlier []mail.Result) ([]mail.Result, error) {
	return f(ctx, earlier)
}

// after finds symbol after a time, unless its context ends before.
func after(d time.Duration, symbol string) Filter {
	return fake(func(ctx context.Context, _ []mail.Result) ([]mail.Result, error) {
		select {
		case <-time.After(d):
			return []mail.Result{{Symbol: symbol}}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

func content(entries ...Entry) Set {
	for i := range entries {
		entries[i].Stage = mail.StageContent
	}
	return entries
}

func run(r *Runner) []mail.Result {
	return r.Run(context.Background(), mail.StageContent, &mail.Message{ID: "m"}, nil)
}

func symbols(results []mail.Result) (s []string) {
	for _, r := range results {
		s = append(s, r.Filter+":"+r.Symbol)
	}
	return s
}

func TestRunAtOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(content(
			Entry{Name: "a", Filter: after(10*time.Millisecond, "A"), Timeout: time.Second},
			Entry{Name: "b", Filter: after(9*time.Millisecond, "B")},
			Entry{Name: "c", Filter: after(8*time.Millisecond, "C"), Timeout: time.Second},
		), nil)
		began := time.Now()
		results := run(r)
		if took := time.Since(began); took != 10*time.Millisecond {
			t.Errorf("three filters of 10 ms took %v", took)
		}
		if got := symbols(results); !slices.Equal(got, []string{"a:A", "b:B", "c:C"}) {
			t.Errorf("got %q", got)
		}
	})
}

func TestRunOnlyItsStage(t *testing.T) {
	set := Set{
		{Name: "a", Stage: mail.StageConnect, Filter: after(0, "A")},
		{Name: "b", Stage: mail.StageContent, Filter: after(0, "B")},
		{Name: "a", Stage: mail.StageContent, Filter: after(0, "A2")},
	}
	r := New(set, nil)
	for stage, want := range map[mail.Stage][]string{
		mail.StageConnect: {"a:A"}, mail.StageContent: {"b:B", "a:A2"}, mail.StageDerived: nil,
	} {
		if got := symbols(r.Run(t.Context(), stage, &mail.Message{}, nil)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", stage, got, want)
		}
	}
}

func TestFailures(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name    string
		filter  fake
		took    time.Duration
		err     error
		symbols []string
		late    int64
	}{
		{
			name:   "error",
			filter: func(context.Context, []mail.Result) ([]mail.Result, error) { return nil, boom },
			err:    boom, symbols: []string{"f:"},
		},
		{
			name: "error beside results",
			filter: func(context.Context, []mail.Result) ([]mail.Result, error) {
				return []mail.Result{{Symbol: "A"}}, boom
			},
			err: boom, symbols: []string{"f:A", "f:"},
		},
		{
			name:   "panic",
			filter: func(context.Context, []mail.Result) ([]mail.Result, error) { panic("oops") },
			err:    errPanic, symbols: []string{"f:"},
		},
		{
			name: "goroutine ended",
			filter: func(context.Context, []mail.Result) ([]mail.Result, error) {
				runtime.Goexit()
				return nil, nil
			},
			err: errPanic, symbols: []string{"f:"},
		},
		{
			name: "timed out, and says so",
			filter: func(ctx context.Context, _ []mail.Result) ([]mail.Result, error) {
				<-ctx.Done()
				return nil, boom
			},
			took: time.Second, err: boom, symbols: []string{"f:"},
		},
		{
			name: "timed out, and knows more within the grace",
			filter: func(ctx context.Context, _ []mail.Result) ([]mail.Result, error) {
				<-ctx.Done()
				time.Sleep(grace - time.Millisecond)
				return []mail.Result{{Symbol: "F_LIMIT", Fault: mail.FaultMessage}}, nil
			},
			took: time.Second + grace - time.Millisecond, symbols: []string{"f:F_LIMIT"},
		},
		{
			name: "ignores its context",
			filter: func(context.Context, []mail.Result) ([]mail.Result, error) {
				time.Sleep(time.Hour)
				return []mail.Result{{Symbol: "LATE"}}, nil
			},
			took: time.Second + grace, err: errLate, symbols: []string{"f:"}, late: 1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := New(content(
					Entry{Name: "f", Filter: test.filter, Timeout: time.Second},
					Entry{Name: "g", Filter: after(0, "G")},
				), nil)
				began := time.Now()
				results := run(r)
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if got := symbols(results); !slices.Equal(got, append(test.symbols, "g:G")) {
					t.Errorf("got %q, want %q", got, test.symbols)
				}
				fault := results[len(results)-2]
				if !errors.Is(fault.Err, test.err) || test.err != nil && fault.Fault != mail.FaultEngine {
					t.Errorf("fault %d, error %v", fault.Fault, fault.Err)
				}
				if r.Late() != test.late {
					t.Errorf("%d late", r.Late())
				}
				time.Sleep(time.Hour) // until the late ones have ended
			})
		})
	}
}

func TestPanicIsLoggedWithItsStack(t *testing.T) {
	var log bytes.Buffer
	r := New(content(Entry{Name: "f", Filter: fake(func(context.Context, []mail.Result) ([]mail.Result, error) {
		panic("oops")
	})}), slog.New(slog.NewTextHandler(&log, nil)))
	run(r)
	for _, want := range []string{"filter=f", "id=m", "panic=oops", "runner_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in %s", want, log.String())
		}
	}
}

// Without a time-out of its own a filter has the caller's.
func TestCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := fake(func(context.Context, []mail.Result) ([]mail.Result, error) {
			time.Sleep(time.Hour)
			return nil, nil
		})
		r := New(content(Entry{Name: "a", Filter: hang}, Entry{Name: "b", Filter: hang, Timeout: time.Minute}, Entry{Name: "c", Filter: hang}), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		results := r.Run(ctx, mail.StageContent, &mail.Message{}, nil)
		if took := time.Since(began); took != time.Second+grace {
			t.Errorf("took %v", took)
		}
		if len(results) != 3 || r.Late() != 3 {
			t.Errorf("%d late, %v", r.Late(), results)
		}
		time.Sleep(time.Hour)
	})
}

// A filter that hangs must not fill the memory with messages.
func TestHangingFilterIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls atomic.Int64
		hang := fake(func(context.Context, []mail.Result) ([]mail.Result, error) {
			calls.Add(1)
			<-release
			return nil, nil
		})
		r := New(content(Entry{Name: "f", Filter: hang, Timeout: time.Second}), nil)
		for range maxLate {
			run(r)
		}
		if n := calls.Load(); n != maxLate {
			t.Fatalf("%d calls", n)
		}
		if results := run(r); calls.Load() != maxLate || !errors.Is(results[0].Err, errStuck) {
			t.Errorf("%d calls, %v", calls.Load(), results)
		}
		close(release)
		synctest.Wait()
		if results := run(r); len(results) != 0 {
			t.Errorf("it goes on and is not asked: %v", results)
		}
	})
}

// What filters share is not theirs to change, and what they keep is not ours.
func TestResultsAreCopied(t *testing.T) {
	shared := []mail.Result{{Symbol: "A"}, {Symbol: "B", Filter: "own"}}
	appends := fake(func(_ context.Context, earlier []mail.Result) ([]mail.Result, error) {
		return append(earlier, mail.Result{Symbol: "X"}), nil
	})
	r := New(content(
		Entry{Name: "a", Filter: fake(func(context.Context, []mail.Result) ([]mail.Result, error) { return shared, nil })},
		Entry{Name: "b", Filter: appends}, Entry{Name: "c", Filter: appends},
	), nil)
	earlier := make([]mail.Result, 1, 10)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got := symbols(r.Run(t.Context(), mail.StageContent, &mail.Message{}, earlier))
			if want := []string{"a:A", "own:B", "b:", "b:X", "c:", "c:X"}; !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
		})
	}
	all.Wait()
	if shared[0].Filter != "" || earlier[:2][1].Symbol != "" {
		t.Error("changed")
	}
}

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(content(
			Entry{Name: "a", Filter: after(3*time.Second, "A")},
			Entry{Name: "b", Filter: after(5*time.Second, "B"), Timeout: time.Second},
		), nil)
		seen := map[string]time.Duration{}
		r.Observe = func(filter string, took time.Duration, err error) {
			seen[filter] = took
			if (err != nil) != (filter == "b") {
				t.Errorf("%s: %v", filter, err)
			}
		}
		run(r)
		if len(seen) != 2 || seen["a"] != 3*time.Second || seen["b"] != time.Second {
			t.Errorf("seen %v", seen)
		}
	})
}

// BenchmarkRun is what three filters cost that do nothing.
func BenchmarkRun(b *testing.B) {
	nothing := fake(func(context.Context, []mail.Result) ([]mail.Result, error) { return nil, nil })
	for name, timeout := range map[string]time.Duration{"callers deadline": 0, "own time-outs": time.Minute} {
		b.Run(name, func(b *testing.B) {
			r := New(content(
				Entry{Name: "a", Filter: nothing, Timeout: timeout},
				Entry{Name: "b", Filter: nothing, Timeout: timeout},
				Entry{Name: "c", Filter: nothing, Timeout: timeout},
			), nil)
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				r.Run(ctx, mail.StageContent, &mail.Message{}, nil)
			}
		})
	}
}
