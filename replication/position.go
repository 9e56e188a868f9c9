package replication

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// ErrMalformedPosition means that a text is not a position or a GTID.
var ErrMalformedPosition = errors.New("malformed position")

// The prefixes of a position's text are those that Vitess writes.
const (
	prefixMySQL   = "MySQL56/"
	prefixMariaDB = "MariaDB/"
)

// A Position is a place in a source's history: the transactions that lie before it. It is an
// immutable value; methods return new positions, which share memory with the old ones. The zero Position
// is no position at all, which is something else than the position before the first transaction
// ("MySQL56/").
//
// A MySQL position is a set of GTIDs. A MariaDB position is the newest GTID of each replication
// domain, so there a transaction is contained when its sequence is not above its domain's, whatever server
// it is from: that holds as long as sequences grow within a domain (gtid_strict_mode).
type Position struct {
	flavor Flavor
	// mysql is sorted by sid; what it points at never changes.
	mysql []*gtidSet
	// mariadb has one element per domain, sorted by domain.
	mariadb []GTID
}

// ParsePosition parses "MySQL56/uuid:1-5:7,...", "MariaDB/0-1-5,...", and the bare texts of a server
// (@@gtid_executed, @@gtid_binlog_pos), with space around every part. A bare empty text is the zero
// Position: for the text of a server that may have no transaction yet, put the prefix before it.
// A uuid or domain may be named several times. Errors are ErrMalformedPosition.
func ParsePosition(s string) (Position, error) {
	s = strings.TrimSpace(s)
	if text, ok := strings.CutPrefix(s, prefixMySQL); ok {
		return parseMySQL(text)
	}
	if text, ok := strings.CutPrefix(s, prefixMariaDB); ok {
		return parseMariaDB(text)
	}
	switch {
	case s == "":
		return Position{}, nil
	case strings.Contains(s, "/"):
		return Position{}, fmt.Errorf("%w: unknown flavor in %q", ErrMalformedPosition, clip(s))
	case strings.Contains(s, ":"):
		return parseMySQL(s)
	}
	return parseMariaDB(s)
}

func parseMySQL(text string) (Position, error) {
	p := Position{flavor: FlavorMySQL}
	if text = strings.TrimSpace(text); text == "" {
		return p, nil
	}
	sets := map[sid][]interval{}
	for part := range strings.SplitSeq(text, ",") {
		if err := parseUUIDSet(sets, part); err != nil {
			return Position{}, err
		}
	}
	for id, list := range sets {
		p.mysql = append(p.mysql, newGTIDSet(id, normalize(list)))
	}
	slices.SortFunc(p.mysql, func(a, b *gtidSet) int { return a.sid.compare(b.sid) })
	return p, nil
}

// parseUUIDSet parses uuid:1-5:7:tag:1-3 into sets.
func parseUUIDSet(sets map[sid][]interval, part string) error {
	head, rest, _ := strings.Cut(part, ":")
	uuid, err := parseUUID(strings.TrimSpace(head))
	if err != nil {
		return err
	}
	id, empty := sid{uuid: uuid}, true
	for word := range strings.SplitSeq(rest, ":") {
		word = strings.TrimSpace(word)
		if word == "" || word[0] < '0' || word[0] > '9' {
			if empty && id.tag != "" {
				break
			}
			if id.tag, err = parseTag(word); err != nil {
				return err
			}
			empty = true
			continue
		}
		v, err := parseInterval(word)
		if err != nil {
			return err
		}
		sets[id], empty = append(sets[id], v), false
	}
	if empty {
		return fmt.Errorf("%w: tag %q without transactions", ErrMalformedPosition, id.tag)
	}
	return nil
}

func parseInterval(s string) (interval, error) {
	first, last, ranged := strings.Cut(s, "-")
	a, err := parseNumber(strings.TrimSpace(first))
	if err != nil || !ranged {
		return interval{a, a}, err
	}
	b, err := parseNumber(strings.TrimSpace(last))
	if err == nil && b < a {
		err = fmt.Errorf("%w: %q runs backwards", ErrMalformedPosition, clip(s))
	}
	return interval{a, b}, err
}

func parseMariaDB(text string) (Position, error) {
	p := Position{flavor: FlavorMariaDB}
	if text = strings.TrimSpace(text); text == "" {
		return p, nil
	}
	newest := map[uint32]GTID{}
	for part := range strings.SplitSeq(text, ",") {
		g, err := parseMariaDBGTID(strings.TrimSpace(part))
		if err != nil {
			return Position{}, err
		}
		if g.number > newest[g.domain].number {
			newest[g.domain] = g
		}
	}
	for _, g := range newest {
		p.mariadb = append(p.mariadb, g)
	}
	slices.SortFunc(p.mariadb, func(a, b GTID) int { return compareDomain(a, b.domain) })
	return p, nil
}

// Flavor is the dialect of p, empty for the zero Position.
func (p Position) Flavor() Flavor { return p.flavor }

// IsZero tells whether p is no position.
func (p Position) IsZero() bool { return p.flavor == "" }

// String is the text with the flavor's prefix, which ParsePosition parses. Equal positions have equal texts:
// lower case, sorted by uuid and tag (or domain), no space.
func (p Position) String() string {
	b, _ := p.AppendText(nil)
	return string(b)
}

// Text is the text as the server takes it, without prefix and in the form of String.
func (p Position) Text() string {
	return string(p.appendBare(nil))
}

// AppendText appends what String returns. The error is always nil.
func (p Position) AppendText(b []byte) ([]byte, error) {
	switch p.flavor {
	case FlavorMySQL:
		b = append(b, prefixMySQL...)
	case FlavorMariaDB:
		b = append(b, prefixMariaDB...)
	}
	return p.appendBare(b), nil
}

// MarshalText returns what String returns. The error is always nil.
func (p Position) MarshalText() ([]byte, error) { return p.AppendText(nil) }

// UnmarshalText is ParsePosition.
func (p *Position) UnmarshalText(text []byte) error {
	q, err := ParsePosition(string(text))
	if err != nil {
		return err
	}
	*p = q
	return nil
}

func (p Position) appendBare(b []byte) []byte {
	for i, s := range p.mysql {
		if i == 0 || s.sid.uuid != p.mysql[i-1].sid.uuid {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendUUID(b, s.sid.uuid)
		}
		if s.sid.tag != "" {
			b = append(append(b, ':'), s.sid.tag...)
		}
		for j := range s.len() {
			v := s.at(j)
			b = strconv.AppendUint(append(b, ':'), v.first, 10)
			if v.last > v.first {
				b = strconv.AppendUint(append(b, '-'), v.last, 10)
			}
		}
	}
	for i, g := range p.mariadb {
		if i > 0 {
			b = append(b, ',')
		}
		b = g.appendMariaDB(b)
	}
	return b
}

// Equal tells whether p and q are the same position: same flavor, same transactions, and for
// MariaDB the same newest server of each domain.
func (p Position) Equal(q Position) bool {
	return p.flavor == q.flavor && slices.Equal(p.mariadb, q.mariadb) &&
		slices.EqualFunc(p.mysql, q.mysql, (*gtidSet).equal)
}

// Contains tells whether transaction g lies before p. No position contains the zero GTID.
func (p Position) Contains(g GTID) bool {
	switch {
	case g.IsZero() || g.flavor != p.flavor:
		return false
	case g.flavor == FlavorMariaDB:
		i, ok := p.findDomain(g.domain)
		return ok && p.mariadb[i].number >= g.number
	}
	i, ok := p.findSID(g.sid)
	return ok && p.mysql[i].contains(g.number)
}

// Covers tells whether every transaction before q lies before p. The zero Position is covered by all;
// otherwise positions of different flavors never cover each other, nor does the zero Position cover any other.
func (p Position) Covers(q Position) bool {
	if q.IsZero() {
		return true
	}
	if p.flavor != q.flavor {
		return false
	}
	for _, g := range q.mariadb {
		if !p.Contains(g) {
			return false
		}
	}
	i := 0
	for _, s := range q.mysql {
		for i < len(p.mysql) && p.mysql[i].sid.compare(s.sid) < 0 {
			i++
		}
		if i == len(p.mysql) || p.mysql[i].sid != s.sid || !p.mysql[i].covers(s) {
			return false
		}
	}
	return true
}

// Add returns the position with transaction g too. A MariaDB position moves to g if g's sequence is above
// its domain's. The zero Position takes g's flavor; any other position stays as it is when g is zero or
// of another flavor (compare Flavor first where that can be): it never claims more than it has.
// Adding the successor of the newest transaction of a server takes time by the number of
// servers only.
func (p Position) Add(g GTID) Position {
	if g.IsZero() || !p.IsZero() && p.flavor != g.flavor {
		return p
	}
	if g.flavor == FlavorMariaDB {
		return p.addMariaDB(g)
	}
	i, ok := p.findSID(g.sid)
	if !ok {
		sets := make([]*gtidSet, 0, len(p.mysql)+1)
		sets = append(append(sets, p.mysql[:i]...), &gtidSet{sid: g.sid, tail: interval{g.number, g.number}})
		return Position{flavor: g.flavor, mysql: append(sets, p.mysql[i:]...)}
	}
	s := p.mysql[i].add(g.number)
	if s == p.mysql[i] {
		return p
	}
	p.mysql = slices.Clone(p.mysql)
	p.mysql[i] = s
	return p
}

func (p Position) addMariaDB(g GTID) Position {
	i, ok := p.findDomain(g.domain)
	switch {
	case !ok:
		list := make([]GTID, 0, len(p.mariadb)+1)
		list = append(append(list, p.mariadb[:i]...), g)
		return Position{flavor: g.flavor, mariadb: append(list, p.mariadb[i:]...)}
	case g.number > p.mariadb[i].number:
		p.mariadb = slices.Clone(p.mariadb)
		p.mariadb[i] = g
	}
	return p
}

// Without returns the position without transaction g of a MySQL server: reading the log from there gives g again. A MariaDB position, of
// which nothing can be taken, stays as it is.
func (p Position) Without(g GTID) Position {
	if p.flavor == FlavorMariaDB || !p.Contains(g) {
		return p
	}
	i, _ := p.findSID(g.sid)
	p.mysql = slices.Clone(p.mysql)
	if rest := p.mysql[i].without(g.number); rest != nil {
		p.mysql[i] = rest
	} else {
		p.mysql = slices.Delete(p.mysql, i, i+1)
	}
	return p
}

// Union returns the position that covers p and q and nothing more. Of two MariaDB GTIDs with one domain and
// sequence, p's stays. The zero Position adds nothing; of two positions of different flavors
// the union is p.
func (p Position) Union(q Position) Position {
	switch {
	case p.IsZero():
		return q
	case p.flavor != q.flavor:
		return p
	}
	for _, g := range q.mariadb {
		p = p.addMariaDB(g)
	}
	if p.flavor != FlavorMySQL || p.Covers(q) {
		return p
	}
	sets := make([]*gtidSet, 0, max(len(p.mysql), len(q.mysql)))
	i, j := 0, 0
	for i < len(p.mysql) && j < len(q.mysql) {
		a, b := p.mysql[i], q.mysql[j]
		switch c := a.sid.compare(b.sid); {
		case c < 0:
			sets, i = append(sets, a), i+1
		case c > 0:
			sets, j = append(sets, b), j+1
		default:
			sets, i, j = append(sets, a.union(b)), i+1, j+1
		}
	}
	p.mysql = append(append(sets, p.mysql[i:]...), q.mysql[j:]...)
	return p
}

// intersect returns the position that both cover and nothing less. Of two MariaDB GTIDs with one domain and sequence,
// p's stays. The zero Position has nothing, nor have positions of different flavors.
func (p Position) intersect(q Position) Position {
	if p.flavor != q.flavor {
		return Position{}
	}
	if q.Covers(p) {
		return p
	}
	out := Position{flavor: p.flavor}
	for _, g := range p.mariadb {
		if i, both := q.findDomain(g.domain); both {
			if q.mariadb[i].number < g.number {
				g = q.mariadb[i]
			}
			out.mariadb = append(out.mariadb, g)
		}
	}
	for _, s := range p.mysql {
		if i, both := q.findSID(s.sid); both {
			if list := s.intersect(q.mysql[i]); len(list) > 0 {
				out.mysql = append(out.mysql, newGTIDSet(s.sid, list))
			}
		}
	}
	return out
}

func (p Position) findSID(id sid) (int, bool) {
	return sort.Find(len(p.mysql), func(i int) int { return id.compare(p.mysql[i].sid) })
}

func (p Position) findDomain(domain uint32) (int, bool) {
	return slices.BinarySearchFunc(p.mariadb, domain, compareDomain)
}

func compareDomain(g GTID, domain uint32) int { return cmp.Compare(g.domain, domain) }
