// Package alarm is how a machine calls for help by itself: a program of the operator's, a webhook, mail. Which of them, the configuration says;
// each gets every alarm, whatever becomes of the others.
package alarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
)

// Alarm is one call for help. It holds no secret and no patient's data.
type Alarm struct {
	Kind   string    `json:"kind"` // of what sort: silence, lag, refusal, restore, disk, doctor; return ends a silence
	Time   time.Time `json:"time"`
	Origin string    `json:"origin,omitempty"` // of the log
	Text   string    `json:"text"`             // one sentence for people
	Host   string    `json:"host"`             // that calls
	Count  int       `json:"count"`            // of this sort since the last that was sent, this one included
	Again  bool      `json:"again,omitempty"`  // it lasts: told before
}

// Kinds that a Caller knows: what lasts is repeated until it is over.
const (
	KindSilence = "silence"
	KindReturn  = "return"
	KindDoctor  = "doctor" // the daily examination of a machine
)

// channel is one way to call.
type channel interface {
	name() string
	send(ctx context.Context, a Alarm) error
}

// Caller sends alarms. It is safe for concurrent use.
type Caller struct {
	cfg      config.Alarm
	host     string
	log      *slog.Logger
	channels []channel

	mu    sync.Mutex
	sorts map[string]*sort
	queue chan Alarm
}

// sort is what is known of alarms of one kind about one log.
type sort struct {
	sent    time.Time
	waiting int   // not sent since
	last    Alarm // the newest
	lasts   bool
}

// Times of sending. An alarm that cannot be sent is tried again: help is needed most when the network is in trouble.
const (
	sendTime   = 30 * time.Second
	queueSize  = 64
	checkEvery = time.Second
)

// pauses are the waits between the attempts to send one alarm.
func pauses() []time.Duration {
	return []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}
}

// New returns a Caller for a host of that name. It reads no file yet: a webhook's address is read when it is needed, so that it can be changed.
func New(cfg config.Alarm, host string, log *slog.Logger) *Caller {
	c := &Caller{cfg: cfg, host: host, log: log, sorts: map[string]*sort{}, queue: make(chan Alarm, queueSize)}
	if cfg.Command != "" {
		c.channels = append(c.channels, command{cfg.Command})
	}
	if cfg.Webhook != "" {
		c.channels = append(c.channels, webhook{cfg.Webhook, cfg.Roots})
	}
	if cfg.MailHost != "" {
		c.channels = append(c.channels, mail{cfg})
	}
	return c
}

// Channels returns by which ways it calls.
func (c *Caller) Channels() []string {
	var names []string
	for _, ch := range c.channels {
		names = append(names, ch.name())
	}
	return names
}

// Raise calls for help, now or, when it did so a short time ago for the same, later: what came in between is counted. It returns at once.
func (c *Caller) Raise(a Alarm) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := a.Kind + "\x00" + a.Origin
	if a.Kind == KindReturn { // ends the silence, which is then not repeated any more
		if s := c.sorts[KindSilence+"\x00"+a.Origin]; s != nil {
			s.lasts, s.waiting, s.sent = false, 0, time.Time{}
		}
	}
	s := c.sorts[key]
	if s == nil {
		s = &sort{}
		c.sorts[key] = s
	}
	s.last, s.lasts = a, a.Kind == KindSilence
	s.waiting++
	if a.Kind == KindReturn || s.sent.IsZero() || time.Since(s.sent) >= c.cfg.Every {
		c.enqueue(s, false)
	}
}

// enqueue has the newest of a sort sent. c.mu is held.
func (c *Caller) enqueue(s *sort, again bool) {
	a := s.last
	a.Host, a.Count, a.Again = c.host, max(1, s.waiting), again
	s.sent, s.waiting = time.Now(), 0
	select {
	case c.queue <- a:
	default:
		c.log.Error("an alarm was dropped: too many wait to be sent", "kind", a.Kind, "origin", a.Origin)
	}
}

// due has sent what waited or lasts for cfg.Every.
func (c *Caller) due() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sorts {
		if (s.waiting > 0 || s.lasts) && time.Since(s.sent) >= c.cfg.Every {
			c.enqueue(s, s.waiting == 0)
		}
	}
}

// Run sends until ctx ends.
func (c *Caller) Run(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	queues := make([]chan Alarm, len(c.channels))
	for i, ch := range c.channels {
		queues[i] = make(chan Alarm, queueSize)
		sending.Go(func() { c.keepSending(ctx, ch, queues[i]) })
	}
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.due()
		case a := <-c.queue:
			c.log.Error("alarm", "kind", a.Kind, "origin", a.Origin, "text", a.Text, "count", a.Count)
			for i, q := range queues {
				select {
				case q <- a:
				default:
					c.log.Error("an alarm was dropped: too many wait to be sent", "by", c.channels[i].name(), "kind", a.Kind)
				}
			}
		}
	}
}

// keepSending sends one channel's alarms, one after another.
func (c *Caller) keepSending(ctx context.Context, ch channel, queue <-chan Alarm) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-queue:
			_ = c.insist(ctx, ch, a) // it has said so
		}
	}
}

// insist sends one alarm, again and again until it has gone. The error is that of the last attempt.
func (c *Caller) insist(ctx context.Context, ch channel, a Alarm) error {
	for _, pause := range append(pauses(), 0) {
		err := sendOne(ctx, ch, a)
		if err == nil || ctx.Err() != nil {
			return err
		}
		c.log.Error("an alarm could not be sent", "by", ch.name(), "error", err.Error(), "again_in", pause.String())
		if pause == 0 {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
	return nil
}

// Call sends one alarm by every channel, each again and again until it has gone or ctx ends, and returns what did not go: for who runs once, and has no time to come back to it.
func (c *Caller) Call(ctx context.Context, a Alarm) error {
	a.Host, a.Count = c.host, 1
	errs := make([]error, len(c.channels))
	var sending sync.WaitGroup
	for i, ch := range c.channels {
		sending.Go(func() {
			if err := c.insist(ctx, ch, a); err != nil {
				errs[i] = fmt.Errorf("%s: %w", ch.name(), err)
			}
		})
	}
	sending.Wait()
	return errors.Join(errs...)
}

func sendOne(ctx context.Context, ch channel, a Alarm) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return ch.send(ctx, a)
}

// Try sends one alarm by every channel, once, and returns what went wrong: whether help would come is to be known before it is needed.
func (c *Caller) Try(ctx context.Context, a Alarm) error {
	a.Host, a.Count = c.host, 1
	var errs []error
	for _, ch := range c.channels {
		if err := sendOne(ctx, ch, a); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", ch.name(), err))
		}
	}
	return errors.Join(errs...)
}

func (a Alarm) json() ([]byte, error) { return json.Marshal(a) }
