package topo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
)

// CellInfo says where the topology of a cell is.
type CellInfo struct {
	layout
	Name string // of the cell; not part of the record
	// ServerAddress is like [Address].Server. When a cell is created without one, it is the global server's.
	ServerAddress string
	// Root is the prefix of the cell's keys, e.g. "/vitess/zone1".
	Root string
}

func (c *CellInfo) fields() []field {
	return []field{
		stringField{label{1, "server_address"}, &c.ServerAddress},
		stringField{label{2, "root"}, &c.Root},
	}
}

// MarshalJSON returns the record as Vitess prints it.
func (c *CellInfo) MarshalJSON() ([]byte, error) { return marshalJSON(c), nil }

// CellsAlias names a group of cells.
type CellsAlias struct {
	layout
	Name  string // of the alias; not part of the record
	Cells []string
}

func (a *CellsAlias) fields() []field { return []field{stringsField{label{2, "cells"}, &a.Cells}} }

// MarshalJSON returns the record as Vitess prints it.
func (a *CellsAlias) MarshalJSON() ([]byte, error) { return marshalJSON(a), nil }

// CreateCell adds a cell. It does not connect to the cell's server. [ErrNodeExists] says that it is there.
func (s *Server) CreateCell(ctx context.Context, c CellInfo) error {
	if err := checkNewCell(c.Name); err != nil {
		return err
	}
	if c.Root == "" {
		return &NameError{Kind: "root of cell " + c.Name, Reason: "it is empty"}
	}
	if c.ServerAddress == "" {
		c.ServerAddress = s.address.Server
	}
	return create(ctx, s.global, cellKey(c.Name), &c)
}

// Cell returns a cell's record, or [ErrNoNode].
func (s *Server) Cell(ctx context.Context, name string) (*CellInfo, error) {
	if err := checkName("cell", name); err != nil {
		return nil, err
	}
	c, _, err := read[CellInfo](ctx, s.global, cellKey(name))
	if err != nil {
		return nil, err
	}
	c.Name = name
	return c, nil
}

// Cells returns the names of all cells, sorted.
func (s *Server) Cells(ctx context.Context) ([]string, error) { return list(ctx, s.global, cellsPath) }

// UpdateCell changes a cell's record. Connections to the cell are opened again if its address changes.
func (s *Server) UpdateCell(ctx context.Context, name string, fn func(*CellInfo) error) error {
	if err := checkName("cell", name); err != nil {
		return err
	}
	return update(ctx, s.global, cellKey(name), func(c *CellInfo) error {
		c.Name = name
		return fn(c)
	})
}

// DeleteCell removes a cell's record, but nothing on the cell's server.
func (s *Server) DeleteCell(ctx context.Context, name string) error {
	if err := checkName("cell", name); err != nil {
		return err
	}
	return s.global.Delete(ctx, cellKey(name), AnyVersion)
}

// CreateCellsAlias adds a name for a group of cells, which must exist.
func (s *Server) CreateCellsAlias(ctx context.Context, a CellsAlias) error {
	if err := checkNewCell(a.Name); err != nil {
		return err
	}
	for _, cell := range a.Cells {
		if _, err := s.Cell(ctx, cell); err != nil {
			return fmt.Errorf("cells alias %s: %w", a.Name, err)
		}
	}
	return create(ctx, s.global, aliasKey(a.Name), &a)
}

// CellsAlias returns a cells alias, or [ErrNoNode].
func (s *Server) CellsAlias(ctx context.Context, name string) (*CellsAlias, error) {
	if err := checkName("cells alias", name); err != nil {
		return nil, err
	}
	a, _, err := read[CellsAlias](ctx, s.global, aliasKey(name))
	if err != nil {
		return nil, err
	}
	a.Name = name
	return a, nil
}

// CellsAliases returns the names of all cells aliases, sorted.
func (s *Server) CellsAliases(ctx context.Context) ([]string, error) {
	return list(ctx, s.global, aliasesPath)
}

// ExpandCells replaces cells aliases by their cells, in order and without repetition. No names mean all cells.
// A name that is neither a cell nor an alias is an [ErrNoNode].
func (s *Server) ExpandCells(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return s.Cells(ctx)
	}
	var out []string
	add := func(cell string) {
		if !slices.Contains(out, cell) {
			out = append(out, cell)
		}
	}
	for _, name := range names {
		_, err := s.Cell(ctx, name)
		if err == nil {
			add(name)
			continue
		}
		if !errors.Is(err, ErrNoNode) {
			return nil, err
		}
		a, aliasErr := s.CellsAlias(ctx, name)
		if errors.Is(aliasErr, ErrNoNode) {
			return nil, &NodeError{Key: path.Join(cellsPath, name), Err: ErrNoNode}
		}
		if aliasErr != nil {
			return nil, aliasErr
		}
		for _, cell := range a.Cells {
			add(cell)
		}
	}
	return out, nil
}
