package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/wire"
)

// OverviewSchema names the form of an Overview in JSON; a field is only ever added under the same name.
const OverviewSchema = "aes-status/1"

// Overview is one screen: how the machine is at this moment. What could not be found out is absent, and an alarm says why.
type Overview struct {
	Schema   string        `json:"schema"`
	At       time.Time     `json:"at"`
	Host     string        `json:"host"`
	Role     Role          `json:"role"`
	Version  string        `json:"version"`
	Signing  bool          `json:"signing"` // of a primary: it would sign now
	Reasons  []string      `json:"reasons,omitempty"`
	Services []ServiceView `json:"services"`
	Log      *LogView      `json:"log,omitempty"`
	Today    *TodayView    `json:"today,omitempty"`
	Backup   *BackupView   `json:"backup,omitempty"`
	Copies   []CopyView    `json:"copies,omitempty"` // of a backup host
	Ending   *EndingView   `json:"certificates_ending,omitempty"`
	Disk     *DiskView     `json:"disk,omitempty"`
	Alarms   []Finding     `json:"alarms"` // what the quick ones of the doctor's checks find bad or worth a warning
}

// ServiceView is how a service runs.
type ServiceView struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // systemd's word; "unknown" without systemd
	Since    time.Time `json:"since,omitzero"`
	Memory   uint64    `json:"memory_bytes,omitempty"`
	Restarts int       `json:"restarts"`
}

// LogView is the log's file.
type LogView struct {
	Lines uint64    `json:"lines"` // 0 when the signer does not answer
	Bytes int64     `json:"bytes"`
	Head  string    `json:"head,omitempty"`
	Last  time.Time `json:"last,omitzero"` // of its last line
}

// TodayView counts what the log says since midnight, UTC.
type TodayView struct {
	Since   time.Time `json:"since"`
	Signed  int       `json:"signed"`               // prescriptions
	Last    time.Time `json:"last_signed,omitzero"` // today
	Refused int       `json:"refused"`
}

// BackupView is the backup host, as the signer sees it.
type BackupView struct {
	State     string    `json:"state"`
	Address   string    `json:"address,omitempty"`
	Connected bool      `json:"connected"`
	Cosigned  uint64    `json:"cosigned_lines"`
	At        time.Time `json:"cosigned_at,omitzero"`
	Lag       float64   `json:"lag_seconds"`
}

// CopyView is a log that a backup host holds.
type CopyView struct {
	Origin   string    `json:"origin"`
	Lines    uint64    `json:"lines"`
	At       time.Time `json:"cosigned_at,omitzero"`
	Refusals int       `json:"refusals"`
}

// EndingView is what somebody must renew.
type EndingView struct {
	Days  int       `json:"within_days"`
	Count int       `json:"count"`
	First time.Time `json:"first,omitzero"`
	Name  string    `json:"first_name,omitempty"`
}

// DiskView is the state's file system.
type DiskView struct {
	Free  uint64 `json:"free_bytes"`
	Total uint64 `json:"total_bytes"`
}

// Watcher looks again and again; it remembers how far it has read the log.
type Watcher struct {
	cfg   Config
	day   time.Time
	at    int64
	today TodayView
}

// Watch returns a Watcher of the machine that cfg describes.
func Watch(cfg Config) *Watcher {
	if cfg.Machine == nil {
		cfg.Machine = Local()
	}
	return &Watcher{cfg: cfg}
}

// lookTime bounds one look.
const lookTime = 5 * time.Second

// Look returns how the machine is now.
func (w *Watcher) Look(ctx context.Context) Overview {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	e := &exam{Config: w.cfg, m: w.cfg.Machine}
	e.signer = newSignerSide(e)
	defer e.signer.close()
	o := Overview{Schema: OverviewSchema, At: w.cfg.Now().UTC(), Role: w.cfg.Role, Version: w.cfg.Version, Alarms: []Finding{}, Services: e.serviceViews(ctx)}
	o.Host, _ = os.Hostname() // a machine without a name has an empty one
	o.Alarms = append(o.Alarms, alarms(e.configuration())...)
	if w.cfg.Broken != nil {
		return o
	}
	if sp, err := e.m.space(e.stateDir()); err == nil {
		o.Disk = &DiskView{Free: sp.free, Total: sp.total}
	}
	groups := []group{{"clock", true, e.clock}, {"disk", true, e.disk}, {"updates", false, e.upgrade}}
	if w.cfg.Role == Backup {
		e.copyViews(&o)
		groups = append(groups, group{"copies", true, e.copies}, group{"alarm", true, e.alarm})
	} else {
		w.primary(ctx, e, &o)
		groups = append(groups, group{"signer", true, e.signerChecks}, group{"token", true, e.token}, group{"certificates", true, e.certificates}, group{"backup", true, e.backup})
	}
	for _, g := range groups {
		s := &sheet{group: g.name}
		g.run(ctx, s)
		o.Alarms = append(o.Alarms, alarms(s.findings)...)
	}
	return o
}

// alarms are the findings that somebody must see.
func alarms(all []Finding) (some []Finding) {
	for _, f := range all {
		if f.Verdict == Bad || f.Verdict == Warn {
			some = append(some, f)
		}
	}
	return some
}

// primary takes down what the signer and the log say.
func (w *Watcher) primary(ctx context.Context, e *exam, o *Overview) {
	o.Log = &LogView{}
	if st, err := e.signer.status(ctx); err == nil {
		o.Signing, o.Reasons = st.Ready, st.Reasons
		o.Log.Lines, o.Log.Head = st.Lines, st.Head
	} else {
		o.Reasons = []string{textOf(err)}
	}
	if b, err := e.signer.backup(ctx); err == nil {
		o.Backup = &BackupView{State: b.State, Address: b.Address, Connected: b.Connected, Cosigned: b.Lines, At: b.At, Lag: float64(b.Lag) / 1000}
	}
	var page wire.CertPage
	days := int(warnEnd.Hours() / 24)
	if _, err := e.signer.client.Call(ctx, wire.OpCertList, wire.CertListRequest{Expiring: true, ExpiringDays: days}, &page, nil); err == nil {
		o.Ending = &EndingView{Days: days, Count: len(page.Certificates)}
		if len(page.Certificates) > 0 {
			o.Ending.First, o.Ending.Name = page.Certificates[0].NotAfter, page.Certificates[0].CommonName
		}
	}
	if err := w.follow(o, filepath.Join(e.m.path(e.Appliance.StateDir), ledger.FileName)); err != nil {
		o.Alarms = append(o.Alarms, Finding{Check: "log.recent", Verdict: Bad, Text: fmt.Sprintf("the log cannot be read: %v", err), Cure: cureLog})
	}
}

// follow counts what the log says of today, from where it stopped the last time.
func (w *Watcher) follow(o *Overview, path string) error {
	t, err := openTail(path)
	if err != nil {
		return err
	}
	defer t.Close()
	midnight := o.At.Truncate(24 * time.Hour)
	if !w.day.Equal(midnight) || t.size < w.at {
		w.day, w.today = midnight, TodayView{Since: midnight}
		if w.at, err = t.since(midnight); err != nil {
			return err
		}
	}
	w.at, err = t.each(w.at, func(b []byte) error {
		l, err := t.p.Parse(b)
		if err != nil {
			return err
		}
		w.today.count(l.EventType, l.Time)
		o.Log.Last = l.Time
		return nil
	})
	o.Log.Bytes = t.size
	today := w.today
	o.Today = &today
	return err
}

func (d *TodayView) count(event string, at time.Time) {
	switch event {
	case "prescription_signed":
		d.Signed++
		d.Last = at
	case "signing_refused", "access_refused":
		d.Refused++
	}
}

// serviceViews asks systemd; without it every state is unknown.
func (e *exam) serviceViews(ctx context.Context) []ServiceView {
	views := []ServiceView{}
	for _, unit := range e.expectedServices() {
		v := ServiceView{Name: strings.TrimSuffix(unit, ".service"), State: "unknown"}
		p, err := e.show(ctx, unit, "ActiveState", "SubState", "ActiveEnterTimestampMonotonic", "MemoryCurrent", "NRestarts", "LoadState")
		if err == nil && p["ActiveState"] != "" {
			v.State = p["ActiveState"]
			if p["LoadState"] == "not-found" {
				v.State = "not installed"
			}
			v.Restarts, _ = strconv.Atoi(p["NRestarts"])
			v.Memory, _ = memory(p["MemoryCurrent"])
			v.Since = e.since(p["ActiveEnterTimestampMonotonic"])
		}
		views = append(views, v)
	}
	return views
}

func memory(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if n == 1<<64-1 { // systemd's "not known"
		return 0, errors.New("not known")
	}
	return n, err
}

// since turns microseconds of the machine's running time into a time of day.
func (e *exam) since(monotonic string) time.Time {
	us, err := strconv.ParseInt(monotonic, 10, 64)
	text, errUp := e.m.read("/proc/uptime")
	up, _, _ := strings.Cut(text, " ")
	seconds, errNumber := strconv.ParseFloat(up, 64)
	if us == 0 || errors.Join(err, errUp, errNumber) != nil {
		return time.Time{}
	}
	return e.Now().Add(time.Duration(us)*time.Microsecond - time.Duration(seconds*float64(time.Second))).UTC().Truncate(time.Second)
}

// copyViews takes down what a backup host holds.
func (e *exam) copyViews(o *Overview) {
	for _, one := range e.held() {
		o.Copies = append(o.Copies, CopyView{Origin: one.Origin, Lines: one.Lines, At: one.Cosigned, Refusals: one.Refusals})
	}
}
