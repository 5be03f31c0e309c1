// boot starts throw-away Debian machines, puts files into them, runs lines of shell in them, and removes them.
//
//	go run ./vmtests/cmd/boot [-debian 12] [-vm] [-hosts primary,backup] [-put FILE:PATH]... [-deb FILE]... [LINE]...
//
//	go run ./vmtests/cmd/boot -able
//
// A line "backup: systemctl status" runs on that host, any other on the first. Without a line there is a shell. It ends with the first line that fails.
// -able boots nothing: it says whether this machine can run containers at all, by its exit code and in one line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type options struct {
	debian     string
	vm, able   bool
	hosts      []string
	puts, debs []string
	lines      []string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("boot", flag.ContinueOnError)
	f.StringVar(&o.debian, "debian", "12", "release: 12 or 13")
	f.BoolVar(&o.vm, "vm", false, "virtual machines with a kernel of their own, not containers")
	f.BoolVar(&o.able, "able", false, "only find out whether containers can be run here")
	hosts := f.String("hosts", "primary", "names of the machines, separated by commas")
	f.Func("put", "FILE:PATH, a file and where it goes in every machine; may be repeated", func(s string) error {
		o.puts = append(o.puts, s)
		return nil
	})
	f.Func("deb", "a package to install in every machine, with what it depends on; may be repeated", func(s string) error {
		o.debs = append(o.debs, s)
		return nil
	})
	err := f.Parse(args)
	o.hosts, o.lines = strings.Split(*hosts, ","), f.Args()
	return o, err
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.able {
		return machine.Able()
	}
	release, err := machine.Release(o.debian)
	if err != nil {
		return err
	}
	base, err := machine.Prepare(release)
	if err != nil {
		return err
	}
	lab, err := machine.NewLab()
	if err != nil {
		return err
	}
	defer lab.Close()
	make, err := maker(o, base, lab)
	if err != nil {
		return err
	}
	machines, err := start(ctx, o, make)
	for _, m := range machines {
		defer m.Close()
	}
	if err != nil {
		return err
	}
	for _, line := range o.lines {
		host, rest, found := strings.Cut(line, ": ")
		if m, ok := machines[host]; found && ok {
			err = show(ctx, m, rest)
		} else {
			err = show(ctx, machines[o.hosts[0]], line)
		}
		if err != nil {
			return err
		}
	}
	if len(o.lines) > 0 {
		return nil
	}
	c, ok := machines[o.hosts[0]].(*machine.Container)
	if !ok {
		return errors.New("a shell is to be had in a container only: give lines")
	}
	shell := c.Shell(context.WithoutCancel(ctx), "exec bash -l")
	shell.Stdin, shell.Stdout, shell.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := shell.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	return nil
}

// maker returns what makes a machine of the kind that is wanted.
func maker(o options, base machine.Base, lab *machine.Lab) (func(host string, number int) (machine.Machine, error), error) {
	if !o.vm {
		return func(host string, number int) (machine.Machine, error) {
			return machine.NewContainer(base, lab, host, number)
		}, nil
	}
	image, err := machine.PrepareImage(base, ".")
	if err != nil {
		return nil, err
	}
	return func(host string, number int) (machine.Machine, error) { return machine.NewVM(image, lab, host, number) }, nil
}

// start boots the machines side by side. What it returns is to be closed, also after an error.
func start(ctx context.Context, o options, make func(host string, number int) (machine.Machine, error)) (map[string]machine.Machine, error) {
	machines := map[string]machine.Machine{}
	errs := []error{}
	var mu sync.Mutex
	var each sync.WaitGroup
	for i, host := range o.hosts {
		m, err := make(host, 10*(i+1))
		if err != nil {
			errs = append(errs, err)
			break
		}
		machines[host] = m
		each.Go(func() {
			err := furnish(ctx, m, o)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	each.Wait()
	return machines, errors.Join(errs...)
}

// furnish boots one machine and puts in what it is to have.
func furnish(ctx context.Context, m machine.Machine, o options) error {
	booting, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := m.Boot(booting); err != nil {
		return err
	}
	for i, host := range o.hosts {
		if _, err := m.Exec(ctx, fmt.Sprintf("echo 198.18.0.%[1]d %[2]s >>/etc/hosts; echo 2001:2:0:18::%[1]d %[2]s >>/etc/hosts", 10*(i+1), host)); err != nil {
			return err
		}
	}
	puts := slices.Clone(o.puts)
	for _, deb := range o.debs {
		puts = append(puts, deb+":/var/cache/boot/"+filepath.Base(deb))
	}
	for _, p := range puts {
		from, to, ok := strings.Cut(p, ":")
		if !ok {
			return fmt.Errorf("-put wants FILE:PATH, not %q", p)
		}
		if err := put(ctx, m, from, to); err != nil {
			return err
		}
	}
	if len(o.debs) == 0 {
		return nil
	}
	out, err := m.Exec(ctx, "apt-get -q update && apt-get install -q -y /var/cache/boot/*.deb")
	if err == nil {
		fmt.Fprint(os.Stderr, out)
	}
	return err
}

func put(ctx context.Context, m machine.Machine, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return machine.Put(ctx, m, to, uint32(info.Mode().Perm()), f)
}

// show runs a line as if it were typed here.
func show(ctx context.Context, m machine.Machine, line string) error {
	c, ok := m.(*machine.Container)
	if !ok {
		out, err := m.Exec(ctx, line)
		fmt.Print(out)
		return err
	}
	cmd := c.Shell(ctx, line)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}
