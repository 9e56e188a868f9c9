package replication

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// spillBuffer is the memory that writing a Spill, and each of its readers, takes besides one change.
const spillBuffer = 256 << 10

// spillWeight is what a Spill counts where memory is bounded: more than it takes, so that few of them are
// open at once.
const spillWeight = 1 << 20

// A Spill holds the changes of one large transaction in a temporary file, which has no name, so that it
// vanishes with its process. Changes are appended by one goroutine; after Flush they can be read any number of times, by
// several goroutines at once. Tables are kept as pointers, not in the file.
type Spill struct {
	file *os.File
	// name is set where an open file can't be removed: Close does it.
	name string
	// w is nil while the spill is not written to.
	w      *bufio.Writer
	tables []*Table
	index  map[*Table]uint64
	count  int
	size   int64
	bytes  int64
	head   []byte

	mu struct {
		sync.Mutex
		closed bool
	}
}

// NewSpill makes an empty spill in a directory; "" is the system's directory for temporary files. The caller closes
// it. An error that the disk is full is transient.
func NewSpill(dir string) (*Spill, error) {
	f, err := os.CreateTemp(dir, "tablehaul-spill-*")
	if err != nil {
		return nil, spillError(err)
	}
	s := &Spill{file: f, index: make(map[*Table]uint64)}
	if err := os.Remove(f.Name()); err != nil {
		s.name = f.Name()
	}
	return s, nil
}

func spillError(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("temporary file of a large transaction: %w", err)
	if errors.Is(err, syscall.ENOSPC) {
		return &TransientError{Err: err}
	}
	return err
}

// Bits of a change's first byte in the file.
const (
	spillBefore = 1 << iota
	spillAfter
	spillCascade
	spillLoose
)

func bit(is bool, b byte) byte {
	if is {
		return b
	}
	return 0
}

// Append puts a change at the end. Nothing may be read between an Append and the next Flush.
func (s *Spill) Append(c Change) error {
	if s.w == nil {
		s.w = bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.size), spillBuffer)
	}
	n, known := s.index[c.Table]
	if !known {
		n = uint64(len(s.tables))
		s.index[c.Table] = n
		s.tables = append(s.tables, c.Table)
	}
	flags := bit(c.Before != nil, spillBefore) | bit(c.After != nil, spillAfter) | bit(c.Cascade, spillCascade) | bit(c.Loose, spillLoose)
	s.head = append(s.head[:0], flags)
	s.head = binary.AppendUvarint(s.head, n)
	s.head = binary.AppendUvarint(s.head, uint64(len(c.Before)))
	s.head = binary.AppendUvarint(s.head, uint64(len(c.After)))
	for _, b := range [][]byte{s.head, c.Before, c.After} {
		if _, err := s.w.Write(b); err != nil {
			return spillError(err)
		}
		s.size += int64(len(b))
	}
	s.count++
	s.bytes += int64(c.Bytes())
	return nil
}

// Flush ends the writing: what was appended can be read. More may be appended later.
func (s *Spill) Flush() error {
	if s.w == nil {
		return nil
	}
	err := s.w.Flush()
	s.w = nil
	return spillError(err)
}

// Len is the number of changes.
func (s *Spill) Len() int { return s.count }

// Bytes is the sum of the changes' Bytes; they are in the file, not in memory.
func (s *Spill) Bytes() int64 { return s.bytes }

// Each calls f for each change in their order, until an error of f, which it returns. The rows are freshly
// allocated: f may keep them. A spill that is not flushed or is closed gives an error.
func (s *Spill) Each(f func(Change) error) error {
	if s.w != nil {
		return errors.New("spill is read while it is written")
	}
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, 0, s.size), spillBuffer)
	for range s.count {
		c, err := s.next(r)
		if err != nil {
			return spillError(err)
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spill) next(r *bufio.Reader) (Change, error) {
	flags, err := r.ReadByte()
	if err != nil {
		return Change{}, err
	}
	var n [3]uint64
	for i := range n {
		if n[i], err = binary.ReadUvarint(r); err != nil {
			return Change{}, err
		}
	}
	if n[0] >= uint64(len(s.tables)) || n[1] > uint64(s.bytes) || n[2] > uint64(s.bytes) {
		return Change{}, fmt.Errorf("%w: the file was changed", ErrMalformedRow)
	}
	rows := make(Row, n[1]+n[2])
	if _, err := io.ReadFull(r, rows); err != nil {
		return Change{}, err
	}
	c := Change{
		Table:   s.tables[n[0]],
		Cascade: flags&spillCascade != 0,
		Loose:   flags&spillLoose != 0,
	}
	if flags&spillBefore != 0 {
		c.Before = rows[:n[1]:n[1]]
	}
	if flags&spillAfter != 0 {
		c.After = rows[n[1]:]
	}
	return c, nil
}

// Truncate drops all changes but the first n. It reads the file up to there.
func (s *Spill) Truncate(n int) error {
	if err := s.Flush(); err != nil || n >= s.count {
		return err
	}
	section := io.NewSectionReader(s.file, 0, s.size)
	r := bufio.NewReaderSize(section, spillBuffer)
	var bytes int64
	for range n {
		c, err := s.next(r)
		if err != nil {
			return spillError(err)
		}
		bytes += int64(c.Bytes())
	}
	at, err := section.Seek(0, io.SeekCurrent)
	if err != nil {
		return spillError(err)
	}
	s.count, s.bytes, s.size = n, bytes, at-int64(r.Buffered())
	return nil
}

// Close frees the file. It may be called again, and at any time.
func (s *Spill) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil
	}
	s.mu.closed = true
	err := s.file.Close()
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	return spillError(err)
}

func (s *Spill) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.closed
}
