package firewall

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// loadTime bounds one call of ufw's script, which starts some two hundred programs: on a slow machine that takes a minute.
const loadTime = 5 * time.Minute

// load gives the kernel what is in ufw's files below root.
//
// Where ufw's frame is in force as those files want it, only the rules in it are exchanged, each family's at once: there is no moment without rules. Else ufw takes all
// of it out and puts it in anew, which takes it a second or more.
func load(ctx context.Context, root string) error {
	there, whole, err := framed(ctx, root)
	if err != nil {
		return err
	}
	if whole && exchange(ctx, root) == nil {
		return nil
	}
	words := []string{"force-stop"}
	if root != "" {
		words = []string{"--datadir", root, "force-stop"}
	}
	if there { // else there is nothing to take out
		if _, err := commandWithin(ctx, loadTime, ufwInit, words...); err != nil {
			return err
		}
	}
	words[len(words)-1] = "start" // which does nothing where ufw is not enabled
	_, err = commandWithin(ctx, loadTime, ufwInit, words...)
	return err
}

// framed reports whether the kernel has anything of ufw's, and whether that is all of what is around the rules in the files below root, and nothing else.
func framed(ctx context.Context, root string) (there, whole bool, err error) {
	s, err := inspect(ctx, filepath.Join(root, etc))
	if err != nil {
		return false, false, err
	}
	whole = s.enabled && len(s.comparePolicies()) == 0
	for v6, live := range s.live {
		for chain := range live.chains {
			there = there || strings.HasPrefix(chain, "ufw")
		}
		whole = whole && len(live.compareFrame(v6)) == 0 && len(s.compareAround(v6)) == 0
	}
	return there, whole, nil
}

// exchange puts the rules in ufw's files below root in the place of those in force. A file of rules names its chains, which empties them, and is taken as a whole or not at all.
func exchange(ctx context.Context, root string) error {
	if _, err := command(ctx, "/usr/sbin/iptables-restore", "-w", "30", "-n", filepath.Join(root, etc, "ufw/user.rules")); err != nil || !hasIPv6() {
		return err
	}
	_, err := command(ctx, "/usr/sbin/ip6tables-restore", "-w", "30", "-n", filepath.Join(root, etc, "ufw/user6.rules"))
	return err
}

// mend takes ufw's chains out of the kernel where the way into them was cut: ufw makes them and the way together, or neither.
func mend(ctx context.Context) error {
	tables, err := inForce(ctx)
	if err != nil {
		return err
	}
	for v6, t := range tables {
		script := t.unhooked(v6)
		if len(script) == 0 {
			continue
		}
		program := "/usr/sbin/iptables"
		if v6 {
			program = "/usr/sbin/ip6tables"
		}
		for _, words := range script {
			if _, err := command(ctx, program, words...); err != nil {
				return err
			}
		}
	}
	return nil
}

// unhooked returns the commands that take ufw's chains out; none where the way into them is whole, or they are not there.
func (t saved) unhooked(v6 bool) [][]string {
	cut := false
	for chain, into := range builtins(v6) {
		if _, there := t.chains[into]; there && !t.has(canonical("-A "+chain+" -j "+into)) {
			cut = true
		}
	}
	if !cut {
		return nil
	}
	var script, empty, remove [][]string
	for _, chain := range slices.Sorted(maps.Keys(t.chains)) {
		if strings.HasPrefix(chain, "ufw") {
			empty = append(empty, []string{"-F", chain})
			remove = append(remove, []string{"-X", chain})
			continue
		}
		for _, line := range t.chains[chain] {
			if words := strings.Fields(line); len(words) == 4 && words[2] == "-j" && strings.HasPrefix(words[3], "ufw") {
				script = append(script, []string{"-D", chain, "-j", words[3]})
			}
		}
	}
	return slices.Concat(script, empty, remove)
}
