package firewall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Options say how a plan is applied.
type Options struct {
	// Within is how long the change lasts without confirmation: 10s to 1h; 0 keeps it at once, for machines with a console.
	Within time.Duration
	// RemoveOthers also removes the rules that are not of the configuration. They are kept, and shown, otherwise.
	RemoveOthers bool
	// Ask is asked before what may lock somebody out, with the question; nil: nobody is there to be asked, and it is refused.
	Ask func(question string) (bool, error)
	// Keep is asked once the change is in force, and until when: yes confirms it, no undoes it. nil: Confirm is called later, by somebody who got in.
	Keep func(ctx context.Context, until time.Time) (bool, error)
}

// Result is what Apply did.
type Result struct {
	Changed bool      `json:"changed"`          // false: all was as wanted before
	Until   time.Time `json:"until,omitzero"`   // the change waits for Confirm until then; zero: it is kept
	Undone  bool      `json:"undone,omitempty"` // Keep said no
	Others  []string  `json:"others,omitempty"` // rules that are not of the configuration and were kept
}

// Apply puts p in force. Running it again changes nothing.
//
// The rules are written into a copy of ufw's files, and the kernel is given that copy: the files themselves change when the change is confirmed. So a
// machine that starts anew before, for whatever reason, comes up as it was, and what is to be undone is what a timer of the system does when nobody
// confirms: it takes neither this process nor the session that it runs in.
//
// Errors: Forbidden (not root), Unavailable (no ufw, or it fails: then everything is as it was), Conflict (somebody would be locked out and was not asked, or
// an earlier change waits for confirmation).
func (h *Host) Apply(ctx context.Context, p Plan, o Options) (result Result, err error) {
	if result, err = h.apply(ctx, p, o); err != nil || result.Until.IsZero() || o.Keep == nil {
		return result, err
	}
	// Not under the lock: nobody may answer, and the timer must get through.
	keep, err := o.Keep(ctx, result.Until)
	result.Until = time.Time{}
	if err == nil && keep {
		return result, h.Confirm(ctx)
	}
	result.Undone = true
	_, undone := h.Rollback(context.WithoutCancel(ctx), false)
	return result, errors.Join(err, undone)
}

// apply is Apply up to the confirmation.
func (h *Host) apply(ctx context.Context, p Plan, o Options) (result Result, err error) {
	if err := ready(); err != nil {
		return result, err
	}
	unlock, err := h.lock()
	if err != nil {
		return result, err
	}
	defer unlock()
	if left, err := h.pending(); err == nil && h.brokenOff(left) {
		if err := h.clean(); err != nil { // what it left in the kernel is compared like anything else
			return result, err
		}
	} else if err == nil {
		return result, fault.New(fault.Conflict, "an earlier change of the packet filter waits for confirmation").WithHint(`"appliance firewall confirm" keeps it, "appliance firewall rollback" undoes it`)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return result, err
	}
	if err := reachable(p, o.Ask); err != nil {
		return result, err
	}
	sums, err := sums() // before anything of it is read: what somebody does from here on is not written over
	if err != nil {
		return result, err
	}
	before, err := inspect(ctx, etc)
	if err != nil {
		return result, err
	}
	if !o.RemoveOthers {
		result.Others = before.others(p)
	}
	if !o.changes(before.compare(p)) {
		return result, nil
	}
	result.Changed = true
	if err := h.stage(ctx, p, before, o.RemoveOthers); err != nil {
		return result, errors.Join(err, h.clean())
	}
	result.Until, err = h.enforce(ctx, p, o, sums)
	return result, err
}

// changes reports whether applying the plan would do anything about what was found.
func (o Options) changes(found []Difference) bool {
	return slices.ContainsFunc(found, func(d Difference) bool {
		return d.Kind != "framework" && (d.Kind != "foreign" || o.RemoveOthers || d.Cure == cureApply)
	})
}

// reachable asks before a plan that keeps out somebody who is logged in now, or everybody.
func reachable(p Plan, ask func(string) (bool, error)) error {
	sessions, err := Sessions(p.SSHPort)
	if err != nil {
		return fault.New(fault.Unavailable, "who is logged in over ssh cannot be seen").WithCause(err)
	}
	var outside []string
	var add []string
	for _, a := range sessions {
		if !covers(p.Admins, a) {
			outside, add = append(outside, a.String()), append(add, a.String())
		}
	}
	question, hint := "", "name the addresses of administrators in firewall.admin_networks"
	ports := sshdPorts()
	admitted := func(port uint16) bool {
		return slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Direction == In && r.Proto == "tcp" && r.Port == port })
	}
	switch {
	case len(outside) > 0:
		question = "ssh sessions from " + strings.Join(outside, ", ") + " are open, and firewall.admin_networks would keep these addresses out"
		hint = "add " + strings.Join(add, " ") + " to firewall.admin_networks, or leave that session"
	case len(p.Admins) == 0 && Listening(p.SSHPort):
		question = "firewall.admin_networks is empty: nobody could come in over ssh again"
	case len(ports) > 0 && !slices.ContainsFunc(ports, admitted):
		question = fmt.Sprintf("ssh is at port %d, and firewall.ssh_port is %d: nobody could come in over ssh again", ports[0], p.SSHPort)
		hint = fmt.Sprintf("set firewall.ssh_port = %d, and name the addresses of administrators in firewall.admin_networks", ports[0])
	default:
		return nil
	}
	refused := fault.New(fault.Conflict, question).WithHint(hint)
	if ask == nil {
		return refused
	}
	yes, err := ask(question + ". Go on?")
	if err != nil || !yes {
		return refused.WithCause(err)
	}
	return nil
}

// others returns the kept rules that are not of the configuration.
func (s state) others(p Plan) []string {
	var all []string
	for _, d := range s.compareKept(p) {
		if d.Kind == "foreign" {
			all = append(all, strings.TrimPrefix(d.Text, "a rule that is not of the configuration: "))
		}
	}
	return all
}

// enforce gives the kernel what is staged, made of files with these sums, and looks whether it is in force. It returns until when that waits for confirmation; zero when it is kept.
func (h *Host) enforce(ctx context.Context, p Plan, o Options, sums map[string]string) (until time.Time, err error) {
	// The timer first: from here on this process may end at any moment.
	if until, err = h.await(ctx, o.Within, sums); err != nil {
		return until, errors.Join(err, h.clean())
	}
	began := h.awake()
	err = mend(ctx)
	if err == nil {
		err = load(ctx, h.staged())
	}
	if err == nil {
		err = h.verify(ctx, p, o)
	}
	if err != nil {
		return until, errors.Join(fault.New(fault.Unavailable, "ufw did not put the rules in force: everything is as it was").WithCause(err), h.undo(context.WithoutCancel(ctx)))
	}
	if o.Within == 0 {
		// What is in force is kept now, whoever breaks this off; where it cannot be, it is not left in force without.
		ctx := context.WithoutCancel(ctx)
		if err = h.keep(ctx); err != nil {
			err = errors.Join(err, h.undo(ctx))
		}
		return time.Time{}, err
	}
	if h.awake()-began > o.Within/10 { // the first time takes ufw minutes on a slow machine, which are not those of whoever is to log in anew
		if until, err = h.await(ctx, o.Within, sums); err != nil {
			return until, errors.Join(err, h.undo(context.WithoutCancel(ctx)))
		}
	}
	return until, nil
}

// await has what comes, or came, undone within that time, unless it is 0, and writes down that it waits. It returns when that is.
func (h *Host) await(ctx context.Context, within time.Duration, sums map[string]string) (until time.Time, err error) {
	if within > 0 {
		if err := h.timer.Arm(ctx, within); err != nil {
			return until, fault.New(fault.Unavailable, "no timer to undo the change can be set").WithHint("on a machine with a console, --keep does without").WithCause(err)
		}
	}
	until = h.now().Add(within)
	return until, h.record(until, within, sums)
}

// verify looks whether what was staged is in force.
func (h *Host) verify(ctx context.Context, p Plan, o Options) error {
	s, err := inspect(ctx, filepath.Join(h.staged(), etc))
	if err != nil {
		return err
	}
	s.disabledUnit = false // keep sees to that
	for _, d := range s.compare(p) {
		if o.changes([]Difference{d}) {
			return errors.New(d.Text)
		}
	}
	return nil
}

// stage makes a copy of ufw's files and has ufw write the plan into it.
func (h *Host) stage(ctx context.Context, p Plan, s state, removeOthers bool) error {
	failed := fault.New(fault.Unavailable, "the rules cannot be prepared").WithHint("is there room in /run, and does ufw work?")
	if err := copyTree(filepath.Join(etc, "ufw"), filepath.Join(h.staged(), etc, "ufw")); err != nil {
		return failed.WithCause(err)
	}
	if err := copyFile(filepath.Join(etc, "default/ufw"), filepath.Join(h.staged(), etc, "default/ufw")); err != nil {
		return failed.WithCause(err)
	}
	if err := os.MkdirAll(filepath.Join(h.staged(), "lib/ufw"), 0o700); err != nil { // ufw's lock
		return failed.WithCause(err)
	}
	// Not enabled, so that ufw only writes files.
	if err := h.set("ufw/ufw.conf", []string{"ENABLED"}, map[string]string{"ENABLED": "no"}); err != nil {
		return failed.WithCause(err)
	}
	defaults := map[string]string{"IPV6": "yes"}
	for _, name := range policies() {
		defaults[name] = `"DROP"`
	}
	if err := h.set("default/ufw", append(policies(), "IPV6"), defaults); err != nil {
		return failed.WithCause(err)
	}
	if err := h.stageRules(ctx, p, s, removeOthers); err != nil {
		return failed.WithCause(err)
	}
	if err := h.set("ufw/ufw.conf", []string{"ENABLED"}, map[string]string{"ENABLED": "yes"}); err != nil {
		return failed.WithCause(err)
	}
	return nil
}

// stageRules takes out what is no longer wanted and has ufw add what is missing.
func (h *Host) stageRules(ctx context.Context, p Plan, s state, removeOthers bool) error {
	var wanted []stored
	for _, r := range p.Rules {
		wanted = append(wanted, r.wanted()...)
	}
	for _, name := range []string{"user.rules", "user6.rules"} {
		path := filepath.Join(h.staged(), etc, "ufw", name)
		err := rewrite(path, func(data []byte) []byte {
			return without(data, func(one stored) bool {
				return !slices.ContainsFunc(wanted, one.same) && (one.ours() || removeOthers)
			}, name == "user6.rules")
		})
		if err != nil {
			return err
		}
	}
	for _, r := range p.Rules {
		if !slices.ContainsFunc(r.wanted(), func(w stored) bool { return !s.holds(w) }) {
			continue
		}
		if _, err := command(ctx, ufwProgram, append([]string{"--datadir=" + h.staged()}, r.args()...)...); err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether ufw has the rule with its comment, and the line for iptables that it stands for.
func (s state) holds(w stored) bool {
	return slices.ContainsFunc(s.rules, func(have stored) bool {
		return have.same(w) && have.comment == w.comment && slices.Equal(have.lines, w.lines)
	})
}

// without returns a file of rules without those that drop says; every other byte stays.
func without(data []byte, drop func(stored) bool, v6 bool) []byte {
	var kept []string
	inRules, dropping := false, false
	for line := range strings.Lines(string(data)) {
		text := strings.TrimSpace(line)
		tuple := inRules && strings.HasPrefix(text, tupleTag)
		switch {
		case text == "### RULES ###", text == "### END RULES ###":
			inRules = text == "### RULES ###"
		case tuple:
			one, err := parseTuple(strings.TrimPrefix(text, tupleTag), v6)
			dropping = err == nil && drop(one)
		}
		if dropping && inRules && (tuple || ruleChain.MatchString(text)) {
			continue
		}
		kept = append(kept, line)
	}
	return []byte(strings.Join(kept, ""))
}

// set writes NAME=value lines into one of the staged files.
func (h *Host) set(name string, names []string, values map[string]string) error {
	return rewrite(filepath.Join(h.staged(), etc, name), func(data []byte) []byte { return assign(data, names, values) })
}

func rewrite(path string, change func([]byte) []byte) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS{}, path, change(data), info.Mode().Perm())
}

// copyTree copies the regular files of a folder, and of those in it.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}

func copyFile(from, to string) error {
	data, err := readFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("the folder of a copy: %w", err)
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}

// Lockout reports which of the open ssh sessions the plan would keep out: for those who ask before they apply.
func Lockout(p Plan) ([]netip.Addr, error) {
	sessions, err := Sessions(p.SSHPort)
	return slices.DeleteFunc(sessions, func(a netip.Addr) bool { return covers(p.Admins, a) }), err
}
