package token

import (
	"bufio"
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// child runs in a process of its own what its parent may kill: it prints a line when it has done something.
func child(job string) {
	cfg := testConfig(os.Getenv("TOKEN_TEST_DIR"))
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	switch job {
	case "generate":
		tok, err := Open(context.Background(), cfg)
		fail(err)
		for i := 0; ; i++ {
			name := fmt.Sprintf("%d-%d", os.Getpid(), i)
			k, err := tok.Generate(KeySpec{Label: name, ID: []byte(name), Algorithm: ECDSAP256})
			fail(err)
			fmt.Println("made", k.Info().Label)
		}
	case "destroy":
		tok, err := Open(context.Background(), cfg)
		fail(err)
		keys, err := tok.Keys()
		fail(err)
		fmt.Println("ready")
		for _, k := range keys {
			fail(tok.Destroy(k.Label, k.ID))
			fmt.Println("gone", k.Label)
		}
	case "login":
		for i := 0; ; i++ {
			tok, err := Open(context.Background(), cfg)
			fail(err)
			fail(tok.Close())
			fmt.Println("opened", i)
		}
	case "change PIN":
		pins := [][]byte{[]byte(testPIN), []byte(otherPIN)}
		if os.Getenv("TOKEN_TEST_PIN") == otherPIN {
			pins[0], pins[1] = pins[1], pins[0]
		}
		for i := 0; ; i++ {
			cfg.PIN = bytes.Clone(pins[i%2])
			fail(ChangePIN(context.Background(), cfg, bytes.Clone(pins[(i+1)%2])))
			fmt.Println("changed", i)
		}
	case "unprivileged":
		fail(errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)))
		tok, err := Open(context.Background(), cfg)
		fail(err)
		_, err = tok.Generate(KeySpec{Label: "unprivileged", ID: []byte("unprivileged"), Algorithm: ECDSAP256})
		fail(err)
		fail(tok.Close())
		fmt.Println("done")
	case "open":
		tok, err := Open(context.Background(), cfg)
		fail(err)
		fmt.Println("opened")
		_, _ = io.ReadAll(os.Stdin)
		fail(tok.Close())
		fmt.Println("closed")
	default:
		childOfModule(job)
	}
}

// childProcess is a child that is under way.
type childProcess struct {
	*exec.Cmd
	lines *bufio.Scanner
	stdin io.WriteCloser
}

// start starts a child for the token in dir. The test ends it.
func startChild(t testing.TB, job, dir string, env ...string) *childProcess {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &childProcess{Cmd: exec.Command(exe)}
	c.Env = append(os.Environ(), append([]string{"TOKEN_TEST_CHILD=" + job, "TOKEN_TEST_DIR=" + dir}, env...)...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		c.stdin, err = c.StdinPipe()
	}
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	t.Cleanup(func() { c.kill() })
	return c
}

// kill ends the child as a power cut would, in its midst, and returns the lines it had still printed.
func (c *childProcess) kill() (rest []string) {
	if c.ProcessState != nil {
		return nil
	}
	_ = c.Process.Kill()
	for c.lines.Scan() {
		rest = append(rest, c.lines.Text())
	}
	_ = c.Wait()
	return rest
}

// line returns the child's next line.
func (c *childProcess) line(t testing.TB) string {
	t.Helper()
	if !c.lines.Scan() {
		t.Fatal("the child ended early")
	}
	return c.lines.Text()
}

func parseECDSA(der []byte) (r, s *big.Int, err error) {
	var v struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &v)
	if err == nil && len(rest) > 0 {
		err = errors.New("trailing bytes " + hex.EncodeToString(rest))
	}
	return v.R, v.S, err
}

// tokenObject returns the path of the folder's one token.object.
func tokenObject(t testing.TB, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "tokens", "*", "token.object"))
	if err != nil || len(found) != 1 {
		t.Fatalf("token.object: %v %v", found, err)
	}
	return found[0]
}
