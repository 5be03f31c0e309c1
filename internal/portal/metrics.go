package portal

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// buckets are the upper bounds of the histograms, in seconds.
func buckets() []float64 {
	return []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.12, 0.25, 0.5, 1, 2.5, 5, 10, 30}
}

// metrics counts, for Prometheus. Labels are of fixed sets: routes, statuses, operations.
type metrics struct {
	inFlight atomic.Int64

	mu       sync.Mutex
	requests map[[2]string]*series // route, status
	signers  map[[2]string]*series // op, kind of error
	gauges   map[string]func() float64
	refused  map[string]uint64 // connections to the outside that were not made, by what for
}

type series struct {
	count   uint64
	seconds float64
	buckets []uint64
}

func newMetrics() *metrics {
	return &metrics{requests: map[[2]string]*series{}, signers: map[[2]string]*series{}, gauges: map[string]func() float64{}, refused: map[string]uint64{egressRealm: 0, egressSigner: 0, egressACME: 0, egressOCSP: 0}}
}

// begin counts a request as in flight until the returned function is called.
func (m *metrics) begin() func(route string, status int, took time.Duration) {
	m.inFlight.Add(1)
	return func(route string, status int, took time.Duration) {
		m.inFlight.Add(-1)
		m.mu.Lock()
		defer m.mu.Unlock()
		add(m.requests, [2]string{route, fmt.Sprint(status)}, took)
	}
}

func (m *metrics) signer(op string, err error, took time.Duration) {
	kind := ""
	if err != nil {
		kind = fault.KindOf(err).String()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	add(m.signers, [2]string{op, kind}, took)
}

// gauge adds a value that is asked for when it is shown.
func (m *metrics) gauge(name string, value func() float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gauges[name] = value
}

// refusal counts a connection to the outside that was not made.
func (m *metrics) refusal(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused[why]++
}

func add(to map[[2]string]*series, key [2]string, took time.Duration) {
	s := to[key]
	if s == nil {
		s = &series{buckets: make([]uint64, len(buckets()))}
		to[key] = s
	}
	s.count++
	s.seconds += took.Seconds()
	for i, le := range buckets() {
		if took.Seconds() <= le {
			s.buckets[i]++
		}
	}
}

// write shows everything in the text format of Prometheus, version 0.0.4.
func (m *metrics) write(w io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintf(w, "# TYPE aes_portal_requests_in_flight gauge\naes_portal_requests_in_flight %d\n", m.inFlight.Load())
	histogram(w, "aes_portal_request_seconds", [2]string{"route", "status"}, m.requests)
	histogram(w, "aes_portal_signer_seconds", [2]string{"op", "error"}, m.signers)
	fmt.Fprint(w, "# TYPE aes_portal_egress_refused_total counter\n")
	for _, why := range slices.Sorted(maps.Keys(m.refused)) {
		fmt.Fprintf(w, "aes_portal_egress_refused_total{for=%q} %d\n", why, m.refused[why])
	}
	for _, name := range slices.Sorted(maps.Keys(m.gauges)) {
		fmt.Fprintf(w, "# TYPE %s gauge\n%s %g\n", name, name, m.gauges[name]())
	}
}

func histogram(w io.Writer, name string, labels [2]string, all map[[2]string]*series) {
	fmt.Fprintf(w, "# TYPE %s histogram\n", name)
	keys := slices.SortedFunc(maps.Keys(all), func(a, b [2]string) int { return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1]) })
	for _, key := range keys {
		s := all[key]
		own := fmt.Sprintf("%s=%q,%s=%q", labels[0], key[0], labels[1], key[1])
		for i, le := range buckets() {
			fmt.Fprintf(w, "%s_bucket{%s,le=\"%g\"} %d\n", name, own, le, s.buckets[i])
		}
		fmt.Fprintf(w, "%s_bucket{%s,le=\"+Inf\"} %d\n%s_sum{%s} %g\n%s_count{%s} %d\n", name, own, s.count, name, own, s.seconds, name, own, s.count)
	}
}
