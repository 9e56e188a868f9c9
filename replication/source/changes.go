package source

import "github.com/tablehaul/tablehaul/replication"

// changeWeight is what a change counts besides its rows.
const changeWeight = 96

// changes are those of one group, in memory or, from some size on, in a file.
type changes struct {
	list []replication.Change
	// bytes is what list takes.
	bytes int
	spill *replication.Spill
}

func (c *changes) count() int {
	if c.spill != nil {
		return c.spill.Len()
	}
	return len(c.list)
}

// move takes the changes out of memory.
func (c *changes) move(dir string) error {
	if c.spill == nil {
		s, err := replication.NewSpill(dir)
		if err != nil {
			return err
		}
		c.spill = s
	}
	for _, x := range c.list {
		if err := c.spill.Append(x); err != nil {
			return err
		}
	}
	clear(c.list)
	if c.list, c.bytes = c.list[:0], 0; cap(c.list) > 1024 {
		c.list = nil
	}
	return nil
}

// truncate drops all changes but the first n.
func (c *changes) truncate(n int) error {
	if c.spill != nil {
		return c.spill.Truncate(n)
	}
	for _, x := range c.list[n:] {
		c.bytes -= x.Bytes() + changeWeight
	}
	clear(c.list[n:])
	c.list = c.list[:n]
	return nil
}

// flush makes what is in a file readable.
func (c *changes) flush() error {
	if c.spill == nil {
		return nil
	}
	return c.spill.Flush()
}

// close drops the changes.
func (c *changes) close() error {
	s := c.spill
	*c = changes{}
	if s == nil {
		return nil
	}
	return s.Close()
}

// add decodes a rows event into the group. When too much is held in memory, the largest group goes to a file.
func (a *assembler) add(m *tableMap, r *rowsBody) error {
	g := a.group
	before := len(g.list)
	var err error
	if g.list, err = a.decoder.decode(g.list, m, r); err != nil {
		return err
	}
	for _, c := range g.list[before:] {
		g.bytes += c.Bytes() + changeWeight
		a.held += c.Bytes() + changeWeight
	}
	if g.spill != nil {
		// Rows of a transaction that is in a file already follow at once.
		return a.move(g)
	}
	for a.held > a.memory {
		largest := g
		for _, p := range a.prepared {
			if p.bytes > largest.bytes {
				largest = p
			}
		}
		if err := a.move(largest); err != nil {
			return err
		}
		if largest != g {
			if err := largest.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *assembler) move(g *group) error {
	a.held -= g.bytes
	return g.move(a.dir)
}

// close drops what is not complete: another connection gets it again.
func (a *assembler) close() {
	if a.group != nil {
		_ = a.group.close() // nobody wants what is in it
	}
	for _, g := range a.prepared {
		_ = g.close()
	}
	a.group, a.prepared, a.held = nil, nil, 0
}
