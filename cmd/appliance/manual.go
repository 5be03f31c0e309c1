package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/manual"
)

// manualCommand writes what the package documents itself with. The program that is packaged writes it: no page can be of another build.
func (a *app) manualCommand() *cobra.Command {
	var dir, date string
	cmd := &cobra.Command{
		Use:    "manual",
		Short:  "Write manual pages, completions and example configurations into a folder (started by make deb)",
		Hidden: true,
		Args:   exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			on, err := time.Parse(time.DateOnly, date)
			if err != nil {
				return usage("--date wants 2006-01-02, not %q", date)
			}
			return a.writeManual(dir, manual.Info{Version: version, Date: on})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder that gets man/, completion/ and examples/")
	cmd.Flags().StringVar(&date, "date", "", "date that the pages carry")
	cmd.MarkFlagRequired("dir")
	cmd.MarkFlagRequired("date")
	return cmd
}

func (a *app) writeManual(dir string, info manual.Info) error {
	root := a.root()
	root.InitDefaultCompletionCmd()
	files := map[string][]byte{
		"examples/appliance.toml": []byte(config.Example()),
		"examples/receiver.toml":  []byte(config.ReceiverExample()),
	}
	pages := manual.Verbs(root, info)
	maps.Copy(pages, manual.Files(info))
	for name, page := range pages {
		files["man/"+name] = page
	}
	for name, generate := range map[string]func(*bytes.Buffer) error{
		"bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"zsh":  func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
	} {
		var b bytes.Buffer
		if err := generate(&b); err != nil {
			return err
		}
		files["completion/"+name] = b.Bytes()
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fault.New(fault.Unavailable, "cannot make the folder of "+path+reason(err)).WithCause(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fault.New(fault.Unavailable, "cannot write "+path+reason(err)).WithCause(err)
		}
	}
	return nil
}
