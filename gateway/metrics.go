package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the gateway counts.
type metrics struct {
	messages      *prometheus.CounterVec
	refused       *prometheus.CounterVec
	turnedAway    *prometheus.CounterVec
	seconds       prometheus.Histogram
	bytes         prometheus.Counter
	waiting       prometheus.Gauge
	undeliverable prometheus.Counter
	silent        *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_messages_total", Help: "Messages whose content came in, by action and first digit of the reply.",
		}, []string{"action", "reply"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_recipients_refused_total", Help: "Recipients refused at RCPT, by reason.",
		}, []string{"reason"}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_connections_refused_total", Help: "Connections ended because of what the client is or does, by reason.",
		}, []string{"reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "postern_message_seconds", Help: "From the final dot to the reply.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_content_octets_total", Help: "Octets of content that came in.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postern_late_answers", Help: "Messages whose next hop has not yet answered the final dot.",
		}),
		undeliverable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_undeliverable_total", Help: "Recipients that a next hop refused after our 250.",
		}),
		silent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_engine_silent_total", Help: "Times a filter's engine could not answer.",
		}, []string{"filter"}),
	}
	r.MustRegister(m.messages, m.refused, m.turnedAway, m.seconds, m.bytes, m.waiting, m.undeliverable, m.silent)
	return m
}
