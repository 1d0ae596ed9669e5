package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// spread is how long things took, in milliseconds.
type spread struct {
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
}

// newSpread sorts times.
func newSpread(times []time.Duration) spread {
	slices.Sort(times)
	at := func(p float64) float64 { return float64(percentile(times, p)) / float64(time.Millisecond) }
	return spread{P50: at(0.50), P95: at(0.95), P99: at(0.99)}
}

// percentile is the smallest value that at least the share p of all values does
// not exceed (the nearest rank). sorted is in order; of nothing it is zero.
func percentile[T cmp.Ordered](sorted []T, p float64) (v T) {
	if len(sorted) == 0 {
		return v
	}
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median is the middle value of a list, or the mean of the two in the middle.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// medianBy is the median of one figure of many.
func medianBy[T any](list []T, figure func(T) float64) float64 {
	values := make([]float64, len(list))
	for i, v := range list {
		values[i] = figure(v)
	}
	return median(values)
}

// medianSpread is the median of each percentile.
func medianSpread[T any](list []T, of func(T) spread) spread {
	return spread{
		P50: medianBy(list, func(v T) float64 { return of(v).P50 }),
		P95: medianBy(list, func(v T) float64 { return of(v).P95 }),
		P99: medianBy(list, func(v T) float64 { return of(v).P99 }),
	}
}
