// agent runs lines of shell in a VM for the test outside, over a virtio-serial port: no network, no login. One JSON request a line, one answer a line;
// several run at once.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log"
	"os"
	"os/exec"
	"sync"
)

type request struct {
	ID    int    `json:"id"`
	Line  string `json:"line,omitempty"` // empty: are you there?
	Stdin []byte `json:"stdin,omitempty"`
}

type answer struct {
	ID     int    `json:"id"`
	Output []byte `json:"output,omitempty"`
	Code   int    `json:"code"`
}

func main() {
	port, err := os.OpenFile(os.Args[1], os.O_RDWR, 0)
	if err != nil {
		log.Fatal(err)
	}
	in, out := bufio.NewReaderSize(port, 1<<16), json.NewEncoder(port)
	var mu sync.Mutex
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // nobody is there: systemd starts it again
		}
		var q request
		if json.Unmarshal(line, &q) != nil {
			continue // the rest of a line that was cut off
		}
		go func() {
			a := do(q)
			mu.Lock()
			defer mu.Unlock()
			out.Encode(a)
		}()
	}
}

func do(q request) answer {
	a := answer{ID: q.ID}
	if q.Line == "" {
		return a
	}
	cmd := exec.Command("/bin/sh", "-c", q.Line)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = bytes.NewReader(q.Stdin), &out, &out, "/root"
	err := cmd.Run()
	a.Output = out.Bytes()
	if cmd.ProcessState != nil {
		a.Code = cmd.ProcessState.ExitCode()
	} else if err != nil {
		a.Output, a.Code = []byte(err.Error()), -1
	}
	return a
}
