package topo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Address says where a topology is. Mount records store one.
type Address struct {
	Type   string `json:"topo_type"`   // "etcd2", "memory", or what the embedding program named its own
	Server string `json:"topo_server"` // for etcd2: endpoints, comma separated
	Root   string `json:"topo_root"`   // prefix of every key, e.g. "/vitess/global"
}

// String returns the address for people.
func (a Address) String() string { return a.Type + " " + a.Server + a.Root }

// Opener connects to a topology server. It fails within seconds, with [ErrUnreachable], if no server answers.
type Opener func(ctx context.Context, a Address) (Conn, error)

// Openers are the implementations that a program uses, by [Address].Type.
type Openers map[string]Opener

// Open connects to a through the opener for its type; an [*ImplementationError] says that there is none.
func (o Openers) Open(ctx context.Context, a Address) (Conn, error) {
	open, ok := o[a.Type]
	if !ok || open == nil {
		return nil, &ImplementationError{Type: a.Type, Known: slices.Sorted(maps.Keys(o))}
	}
	c, err := open(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("open topology %s: %w", a, err)
	}
	return c, nil
}

// readConcurrency bounds parallel reads of one call; Vitess has the same.
const readConcurrency = 32

// Server is a topology: typed records over the [Conn] of its global root and those of its cells. It may be used
// concurrently.
type Server struct {
	openers Openers
	address Address
	global  Conn

	cells struct {
		sync.Mutex
		conns  map[string]cellConn
		closed bool
	}
}

type cellConn struct {
	address Address
	conn    Conn
}

// Open connects to the global root of a topology. The openers are used again for its cells, whose records may
// name other servers, and for mounted clusters.
func Open(ctx context.Context, openers Openers, a Address) (*Server, error) {
	c, err := openers.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	s := &Server{openers: openers, address: a, global: c}
	s.cells.conns = make(map[string]cellConn)
	return s, nil
}

// OpenOther opens another topology with the openers of s. The caller closes it.
func (s *Server) OpenOther(ctx context.Context, a Address) (*Server, error) {
	return Open(ctx, s.openers, a)
}

// Address returns what s was opened with.
func (s *Server) Address() Address { return s.address }

// Conn returns the connection of the global root. It belongs to s.
func (s *Server) Conn() Conn { return s.global }

// Close closes the connections of s.
func (s *Server) Close() error {
	s.cells.Lock()
	defer s.cells.Unlock()
	s.cells.closed = true
	errs := []error{s.global.Close()}
	for _, c := range s.cells.conns {
		errs = append(errs, c.conn.Close())
	}
	clear(s.cells.conns)
	return errors.Join(errs...)
}

// CellConn returns the connection of a cell's root. It belongs to s, which replaces it when the cell's record says
// another address.
func (s *Server) CellConn(ctx context.Context, cell string) (Conn, error) {
	info, err := s.Cell(ctx, cell)
	if err != nil {
		return nil, err
	}
	// A record without an address means the global server, which implementations in one process need.
	a := Address{Type: s.address.Type, Server: info.ServerAddress, Root: info.Root}
	if a.Server == "" {
		a.Server = s.address.Server
	}

	if c, err := s.cachedConn(cell, a); c != nil || err != nil {
		return c, err
	}
	// The lock is not held meanwhile: a cell that does not answer must not stop the others.
	c, err := s.openers.Open(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("cell %s: %w", cell, err)
	}
	c, unused, err := s.keepConn(cell, cellConn{address: a, conn: c})
	if unused != nil {
		err = errors.Join(err, unused.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("cell %s: %w", cell, err)
	}
	return c, nil
}

// cachedConn returns the open connection of a cell, or nil if there is none to a.
func (s *Server) cachedConn(cell string, a Address) (Conn, error) {
	s.cells.Lock()
	defer s.cells.Unlock()
	if s.cells.closed {
		return nil, fmt.Errorf("cell %s: %w", cell, ErrClosed)
	}
	if have, ok := s.cells.conns[cell]; ok && have.address == a {
		return have.conn, nil
	}
	return nil, nil
}

// keepConn makes c the connection of a cell unless another call was quicker. It returns the one to use and the
// one to close.
func (s *Server) keepConn(cell string, c cellConn) (use, unused Conn, err error) {
	s.cells.Lock()
	defer s.cells.Unlock()
	have, ok := s.cells.conns[cell]
	switch {
	case s.cells.closed:
		return nil, c.conn, ErrClosed
	case ok && have.address == c.address:
		return have.conn, c.conn, nil
	}
	s.cells.conns[cell] = c
	return c.conn, have.conn, nil
}

// CellError says which cells could not be read. The rest of the answer is complete.
type CellError struct {
	Cells map[string]error // why, by cell
}

func (e *CellError) Error() string {
	var b strings.Builder
	for i, cell := range slices.Sorted(maps.Keys(e.Cells)) {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "cell %s: %v", cell, e.Cells[cell])
	}
	return b.String()
}

// Unwrap returns the causes.
func (e *CellError) Unwrap() []error { return slices.Collect(maps.Values(e.Cells)) }

// inCells calls fn for each cell at once, and returns a *CellError with what went wrong.
func (s *Server) inCells(ctx context.Context, cells []string, fn func(ctx context.Context, cell string, c Conn) error) error {
	var failed struct {
		sync.Mutex
		cells map[string]error
	}
	failed.cells = make(map[string]error)
	var g errgroup.Group
	g.SetLimit(readConcurrency)
	for _, cell := range cells {
		g.Go(func() error {
			c, err := s.CellConn(ctx, cell)
			if err == nil {
				err = fn(ctx, cell, c)
			}
			if err != nil {
				failed.Lock()
				failed.cells[cell] = err
				failed.Unlock()
			}
			return nil // one cell must not end the others
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(failed.cells) > 0 {
		return &CellError{Cells: failed.cells}
	}
	return nil
}

// each calls fn for 0 to n-1, some at once, and returns the first error.
func each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readConcurrency)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}
