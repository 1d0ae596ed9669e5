package main

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		list []int
		p    float64
		want int
	}{
		{nil, 0.5, 0},
		{[]int{7}, 0, 7},
		{[]int{7}, 0.5, 7},
		{[]int{7}, 1, 7},
		{[]int{1, 2}, 0.5, 1},
		{[]int{1, 2}, 0.51, 2},
		{[]int{1, 2, 3}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.95, 95},
		{hundred, 0.99, 99},
		{hundred, 0.991, 100},
		{hundred, 1, 100},
	} {
		if got := percentile(c.list, c.p); got != c.want {
			t.Errorf("percentile %v of %d: %d, want %d", c.p, len(c.list), got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3},
	} {
		if got := median(c.list); got != c.want {
			t.Errorf("%v: %v", c.list, got)
		}
	}
}

func TestSpread(t *testing.T) {
	if got := newSpread(nil); got != (spread{}) {
		t.Error(got)
	}
	got := newSpread([]time.Duration{3 * time.Millisecond, time.Millisecond, 2500 * time.Microsecond})
	if got != (spread{2.5, 3, 3}) {
		t.Error(got)
	}
	all := []spread{{1, 2, 9}, {2, 3, 4}, {3, 1, 5}}
	if got := medianSpread(all, func(s spread) spread { return s }); got != (spread{2, 2, 5}) {
		t.Error(got)
	}
}
