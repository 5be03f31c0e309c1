// Command bill says what the binary is made of: a copyright file (DEP-5), a bill of materials (CycloneDX), and whether Debian has newer
// versions of the libraries that are linked in.
//
//	bill copyright -binary FILE -tags TAGS
//	bill sbom -binary FILE -tags TAGS -version V -time SECONDS
//	bill check -sbom FILE
//
// Exit codes of check: 0 nothing newer, 1 something newer, 2 could not judge.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	err := run(os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	if errors.Is(err, errNewer) {
		os.Exit(1)
	}
	os.Exit(2)
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("bill wants copyright, sbom or check")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	binary := flags.String("binary", "", "the static binary")
	tags := flags.String("tags", "", "the tags that it was built with")
	version := flags.String("version", "", "its version")
	seconds := flags.Int64("time", 0, "time of the bill, seconds since 1970")
	sbom := flags.String("sbom", "", "a bill that was made before")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "check" {
		return check(*sbom, out)
	}
	modules, err := linkedModules(*binary, *tags)
	if err != nil {
		return err
	}
	libraries, err := linkedLibraries()
	if err != nil {
		return err
	}
	switch args[0] {
	case "copyright":
		return writeCopyright(out, modules, libraries)
	case "sbom":
		return writeSBOM(out, *binary, *version, time.Unix(*seconds, 0).UTC(), modules, libraries)
	}
	return fmt.Errorf("bill does not know %q", args[0])
}

// part is one thing that is linked into the binary.
type part struct {
	name, version string
	sum           string // of a Go module, as go.sum has it
	purl          string
	licences      []string // SPDX
	grants        []grant
	debian        *debian // of a library from Debian
	note          string
}

// debian says where a library came from.
type debian struct{ Package, Version, Source, SourceVersion string }
