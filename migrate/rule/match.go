package rule

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// A truth is a value of SQL's logic, or that it isn't known yet.
type truth int8

const (
	isFalse truth = iota
	isTrue
	isNull
	isOpen
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

func (t truth) not() truth {
	switch t {
	case isFalse:
		return isTrue
	case isTrue:
		return isFalse
	default:
		return t
	}
}

// and joins two truths; what is open may become any.
func (t truth) and(u truth) truth {
	switch {
	case t == isFalse || u == isFalse:
		return isFalse
	case t == isOpen || u == isOpen:
		return isOpen
	case t == isNull || u == isNull:
		return isNull
	}
	return isTrue
}

func (t truth) or(u truth) truth { return t.not().and(u.not()).not() }

// Match tells for each row whether the condition is true. The server is asked for texts whose collation is not binary, once
// for each value that it was not asked for lately, and for many at once.
func (f *Filter) Match(ctx context.Context, rows []replication.Row) ([]bool, error) {
	verdicts := make([]bool, len(rows))
	open := make([]int, len(rows))
	for i := range rows {
		open[i] = i
	}
	m := &matching{filter: f, known: map[string]int8{}}
	var buf [32][]byte
	values := buf[:0]
	for len(open) > 0 {
		var left []int
		for _, i := range open {
			var err error
			if values, err = rows[i].Values(values, len(f.table.Columns)); err != nil {
				return nil, &replication.RowError{Table: f.table.Name, Err: err}
			}
			t, err := m.eval(f.root, values)
			if err != nil {
				return nil, &replication.RowError{Table: f.table.Name, Err: err}
			}
			verdicts[i] = t == isTrue
			if t == isOpen {
				left = append(left, i)
			}
		}
		if open = left; len(open) > 0 {
			if err := m.settle(ctx); err != nil {
				return nil, fmt.Errorf("table %s: condition of the rule: %w", f.table.Name, err)
			}
		}
	}
	return verdicts, nil
}

// A matching is one call of Match.
type matching struct {
	filter *Filter
	// known are the answers that this call has needed, by key; todo those that it needs.
	known map[string]int8
	todo  []question
}

// A question is one for the server.
type question struct{ key, sql string }

func (m *matching) eval(n *node, values [][]byte) (truth, error) {
	switch n.kind {
	case isNot:
		t, err := m.eval(n.args[0], values)
		return t.not(), err
	case isAnd, isOr:
		all := truthOf(n.kind == isAnd)
		for _, a := range n.args {
			t, err := m.eval(a, values)
			if err != nil {
				return isNull, err
			}
			if n.kind == isAnd {
				all = all.and(t)
			} else {
				all = all.or(t)
			}
			if all == truthOf(n.kind == isOr) {
				return all, nil
			}
		}
		return all, nil
	default:
		return m.test(n, values[n.column])
	}
}

// test evaluates an atom.
func (m *matching) test(n *node, v []byte) (truth, error) {
	if n.op == opIsNull {
		return truthOf(v == nil), nil
	}
	if n.op != opIn {
		return m.compare(n.op, n.sides[0], v)
	}
	all := isFalse
	for _, s := range n.sides {
		t, err := m.compare(opEqual, s, v)
		if err != nil || t == isTrue {
			return t, err
		}
		all = all.or(t)
	}
	return all, nil
}

// compare compares one value with one literal.
func (m *matching) compare(op operator, s *side, v []byte) (truth, error) {
	if v == nil || s.null {
		if op == opNullSafe {
			return truthOf(v == nil && s.null), nil
		}
		return isNull, nil
	}
	if s.form != nil {
		var err error
		if v, err = s.form(v); err != nil {
			return isNull, err
		}
	}
	order := 0
	switch {
	case s.question == 0:
		order = s.as.Compare(v, s.literal)
	case !s.like && bytes.Equal(v, s.literal): // whatever the collation
	default:
		answer, known := m.answer(s, v)
		if !known {
			return isOpen, nil
		}
		order = int(answer)
	}
	switch op {
	case opNotEqual:
		return truthOf(order != 0), nil
	case opLess:
		return truthOf(order < 0), nil
	case opLessEqual:
		return truthOf(order <= 0), nil
	case opGreater:
		return truthOf(order > 0), nil
	case opGreaterEqual:
		return truthOf(order >= 0), nil
	case opLike:
		return truthOf(order == 1), nil
	default:
		return truthOf(order == 0), nil
	}
}

// answer is what the server has said about a value; if it was not asked yet, it will be.
func (m *matching) answer(s *side, v []byte) (int8, bool) {
	key := fmt.Sprintf("%d %s", s.question, v)
	if a, ok := m.known[key]; ok {
		return a, true
	}
	if a, ok := m.filter.answers.get(key); ok {
		m.known[key] = a
		return a, true
	}
	m.todo = append(m.todo, question{key, s.questionSQL(v)})
	return 0, false
}

// questionSQL is how the value compares: -1, 0 or 1; or whether it is like the literal.
func (s *side) questionSQL(v []byte) string {
	head := "STRCMP("
	if s.like {
		head = "("
	}
	q := s.appendText([]byte(head), v)
	if s.like {
		q = append(s.appendText(append(q, " LIKE "...), s.literal), ` ESCAPE '\\'`...)
	} else {
		q = s.appendText(append(q, ','), s.literal)
	}
	return string(append(q, ')'))
}

// appendText appends a literal that compares as the column does.
func (s *side) appendText(dst, v []byte) []byte {
	dst = append(append(append(dst, '_'), s.as.Charset...), ' ')
	dst = sqltext.AppendHex(dst, v)
	return append(append(dst, " COLLATE "...), s.as.Collation...)
}

const (
	// askCount and askBytes bound one statement that asks the server.
	askCount, askBytes = 256, 1 << 20
)

// settle asks the server what is to be asked.
func (m *matching) settle(ctx context.Context) error {
	todo := m.todo
	m.todo = nil
	for len(todo) > 0 {
		var sql []string
		size := 0
		batch := map[string]int{}
		n := 0
		for ; n < len(todo) && len(sql) < askCount && (n == 0 || size < askBytes); n++ {
			if _, twice := batch[todo[n].key]; twice {
				continue
			}
			if _, known := m.known[todo[n].key]; known {
				continue
			}
			batch[todo[n].key] = len(sql)
			sql = append(sql, todo[n].sql)
			size += len(todo[n].sql)
		}
		todo = todo[n:]
		if len(sql) == 0 {
			continue
		}
		got, err := m.filter.ask(ctx, sql)
		if err != nil {
			return err
		}
		for key, i := range batch {
			a, err := answerOf(got, i)
			if err != nil {
				return err
			}
			m.known[key] = a
			m.filter.answers.put(key, a)
		}
	}
	return nil
}

func answerOf(got [][]byte, i int) (int8, error) {
	if i < len(got) {
		switch string(got[i]) {
		case "-1":
			return -1, nil
		case "0":
			return 0, nil
		case "1":
			return 1, nil
		}
		return 0, fmt.Errorf("the server answers %.20q to how a text compares", got[i])
	}
	return 0, fmt.Errorf("the server gives %d answers, not %d", len(got), i+1)
}
