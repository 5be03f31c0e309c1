// Package wire is how the portal and the operator's commands talk to the signer: typed operations over a stream unix socket.
//
// A message is four bytes, its length as a big-endian number, and that many bytes: a head, which is a line of JSON, and after the line feed the body in
// JSON, if there is one, so that a body is read once, by whoever knows its type.
//
//	request  {"id":7,"op":"sign_open","timeout_ms":30000} LF {…}
//	answer   {"id":7} LF {…}  or  {"id":7,"error":{"kind","code","public","hint","dial"}}
//
// The answers that are DER and nothing else (Signature, Stamped) are lists of bytes instead: packed.go.
//
// Both sides refuse what they do not know. At most one file descriptor goes with a message (SCM_RIGHTS, on the first byte of its length): a
// sealed memfd for a document, a connected TCP socket for a realm. Answers come in any order; the id tells which request they are for.
package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"

	"golang.org/x/sys/unix"
)

// MaxMessage is the largest message, in bytes after its length. What can be larger goes as a descriptor.
const MaxMessage = 4 << 20

const (
	lengthSize = 4
	firstRead  = 64 << 10 // most messages are smaller, and read at once
	// maxPassed is how many descriptors of one message are looked at, to be closed; the kernel closes those beyond.
	maxPassed = 16
)

// Errors of a peer that does not keep to the format. The connection is closed after any of them.
var (
	ErrTooLong     = errors.New("wire: message is longer than 4 MiB")
	ErrEmpty       = errors.New("wire: message is empty")
	ErrDescriptors = errors.New("wire: more than one descriptor, or something else than a descriptor, came with a message")
	ErrFormat      = errors.New("wire: message is not what the format says")
)

// request is what a client sends.
type request struct {
	ID        uint64 `json:"id"`
	Op        Op     `json:"op"`
	TimeoutMS int64  `json:"timeout_ms,omitempty"` // how long the client will wait; 0 = for ever
	body      json.RawMessage
}

// answer is what the server sends.
type answer struct {
	ID    uint64   `json:"id"`
	Error *failure `json:"error,omitempty"`
	body  json.RawMessage
}

// Decode reads exactly one JSON value into v: unknown fields and anything after it are refused. Nothing is left of what v was before: an answer leaves out what is empty, and who asks
// again with the same variable would take the old for the new.
func Decode(raw []byte, v any) error {
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
		p.Elem().SetZero()
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the value")
	}
	return nil
}

// readHead decodes the head of a message into head, and returns its body, nil when there is none.
func readHead(raw []byte, head any) (body []byte, err error) {
	line, body, whole := bytes.Cut(raw, []byte{'\n'})
	if whole && len(body) == 0 {
		return nil, fmt.Errorf("%w: there is no body", ErrFormat)
	}
	if err := Decode(line, head); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	return body, nil
}

// writeMessage sends head, a request or an answer, and body, with fd when there is one. The caller keeps fd, and sees to it that one message is written
// at a time.
func writeMessage(c *net.UnixConn, head any, body []byte, fd *os.File) error {
	line, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("wire: encoding a message: %w", err)
	}
	frame := append(make([]byte, lengthSize, lengthSize+len(line)+1+len(body)), line...)
	if len(body) > 0 {
		frame = append(append(frame, '\n'), body...)
	}
	if len(frame)-lengthSize > MaxMessage {
		return ErrTooLong
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-lengthSize))
	if fd != nil {
		// unix(7): a descriptor arrives with the first byte it was sent with.
		n, _, err := c.WriteMsgUnix(frame, unix.UnixRights(int(fd.Fd())), nil)
		if err != nil {
			return fmt.Errorf("wire: passing a descriptor: %w", err)
		}
		if frame = frame[n:]; len(frame) == 0 {
			return nil // an empty write would ask the kernel once more, and a peer that has answered and gone would make it EPIPE
		}
	}
	if _, err := c.Write(frame); err != nil {
		return fmt.Errorf("wire: writing a message: %w", err)
	}
	return nil
}

// readMessage returns the next message and the descriptor that came with it, which is the caller's to close. io.EOF: the peer has closed
// between messages. admit is asked before a body is read whether there is room for it.
func readMessage(c *net.UnixConn, admit func(size int64) error) (raw []byte, fd *os.File, err error) {
	var length [lengthSize]byte
	defer func() {
		if err != nil && fd != nil {
			fd.Close()
			fd = nil
		}
	}()
	control := make([]byte, unix.CmsgSpace(maxPassed*4))
	for n := 0; n < lengthSize; {
		got, controls, flags, _, err := c.ReadMsgUnix(length[n:], control)
		passed, bad := descriptors(control[:controls], flags)
		if fd != nil || len(passed) > 1 || bad != nil {
			closeAll(passed)
			return nil, fd, errors.Join(ErrDescriptors, bad)
		}
		if len(passed) == 1 {
			fd = passed[0]
		}
		switch {
		case err == nil && got == 0 && n == 0:
			return nil, fd, io.EOF
		case err == nil && got == 0:
			return nil, fd, io.ErrUnexpectedEOF
		case err != nil:
			return nil, fd, err
		}
		n += got
	}
	size := binary.BigEndian.Uint32(length[:])
	switch {
	case size > MaxMessage:
		return nil, fd, ErrTooLong
	case size == 0:
		return nil, fd, ErrEmpty
	}
	if err := admit(int64(size)); err != nil {
		return nil, fd, err
	}
	// The buffer grows with what comes, not with what was promised. Descriptors sent after the length are closed by the kernel: Read takes none.
	var b bytes.Buffer
	b.Grow(int(min(size, firstRead)) + bytes.MinRead)
	if _, err := io.CopyN(&b, c, int64(size)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fd, err
	}
	return b.Bytes(), fd, nil
}

// descriptors returns what came as ancillary data; an error leaves nothing open but what is returned.
func descriptors(control []byte, flags int) (files []*os.File, err error) {
	if len(control) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, rightsErr := unix.ParseUnixRights(&messages[i])
		if rightsErr != nil {
			err = rightsErr // credentials and the like: never asked for
			continue
		}
		for _, n := range fds {
			files = append(files, os.NewFile(uintptr(n), "passed"))
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		err = errors.Join(err, errors.New("too many descriptors"))
	}
	return files, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
