package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/veripath/aes-appliance/internal/chain"
)

// lineReader gives the whole lines of a log.
type lineReader struct{ r *bufio.Reader }

func newLineReader(r io.Reader) lineReader {
	return lineReader{bufio.NewReaderSize(r, chain.MaxLine+1)}
}

// next returns the next line without its newline, good until the next call; nil when no whole one is left.
func (l lineReader) next() ([]byte, error) {
	b, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
		return b[:len(b)-1], nil
	case errors.Is(err, io.EOF):
		return nil, nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("a line of more than %d bytes", chain.MaxLine)
	}
	return nil, err
}
