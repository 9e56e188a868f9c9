package migrate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// AutoIncrementHandling says what becomes of the AUTO_INCREMENT columns of tables whose rows are spread over shards by a vindex. It
// does not concern other tables: those of a keyspace that is not sharded, and those that one shard or every shard holds whole, stay
// as they are.
type AutoIncrementHandling uint8

// What Create can do about AUTO_INCREMENT columns in a sharded keyspace.
const (
	// AutoIncrementRemove creates the tables without AUTO_INCREMENT: shards that count for themselves hand the same id out twice. It is
	// the default. Rows need an id when they are inserted then, from the program, or from a sequence that the VSchema names.
	AutoIncrementRemove AutoIncrementHandling = iota
	// AutoIncrementLeave creates the tables as they are.
	AutoIncrementLeave
	// AutoIncrementReplace removes AUTO_INCREMENT and lets vtgate give the ids out: Create makes a sequence "<table>_seq" in
	// CreateOptions.GlobalKeyspace for each table, Complete sets it above the highest id there is, and puts it into the VSchema. If the VSchema
	// has a sequence of that keyspace for the table already, that one is used. Complete tells the keyspace's vttablet to read its schema, without
	// which it does not know a new sequence; where it can't (the vttablet wants TLS, say) CompleteResult.Done has the command to call.
	AutoIncrementReplace
)

var autoIncrementNames = [...]string{"REMOVE", "LEAVE", "REPLACE"}

// String is the name as Vitess spells it.
func (h AutoIncrementHandling) String() string {
	if int(h) < len(autoIncrementNames) {
		return autoIncrementNames[h]
	}
	return fmt.Sprintf("AutoIncrementHandling(%d)", uint8(h))
}

// ParseAutoIncrement reads REMOVE, LEAVE or REPLACE in any case; empty is REMOVE.
func ParseAutoIncrement(s string) (AutoIncrementHandling, error) {
	if s == "" {
		return AutoIncrementRemove, nil
	}
	for h, name := range autoIncrementNames {
		if strings.EqualFold(name, s) {
			return AutoIncrementHandling(h), nil
		}
	}
	return 0, &OptionError{"AutoIncrement", fmt.Sprintf("%q is not REMOVE, LEAVE or REPLACE", s)}
}

// validateAutoIncrement reports what is wrong with the options whatever the VSchemas say.
func (o CreateOptions) validateAutoIncrement() error {
	switch {
	case int(o.AutoIncrement) >= len(autoIncrementNames):
		return &OptionError{"AutoIncrement", fmt.Sprintf("unknown value %d", uint8(o.AutoIncrement))}
	case o.GlobalKeyspace != "" && o.AutoIncrement != AutoIncrementReplace:
		return &OptionError{"GlobalKeyspace", "is given, and AutoIncrement is not REPLACE: nothing would be made there"}
	}
	return nil
}

// A sequenceRecord is the sequence that gives out the ids of one table.
type sequenceRecord struct {
	Table  string `json:"table"`
	Column string `json:"column"`
	// Keyspace and Name are those of the sequence's own table.
	Keyspace string `json:"keyspace"`
	Name     string `json:"name"`
	// Create says that it was not there: Create makes it and Cancel may drop it.
	Create bool `json:"create,omitempty"`
}

// String is the sequence's name for people.
func (s sequenceRecord) String() string { return s.Keyspace + "." + s.Name }

// reference is the sequence's name as a VSchema has it.
func (s sequenceRecord) reference() string {
	return sequencePart(s.Keyspace) + "." + sequencePart(s.Name)
}

// sequencePart quotes a name unless vtgate reads it as it is.
func sequencePart(name string) string {
	for i := range len(name) {
		if !isWord(name[i]) || name[i] >= 0x80 || i == 0 && name[i] >= '0' && name[i] <= '9' {
			return ident(name)
		}
	}
	return name
}

// parseSequence reads the name of a sequence in a VSchema, "name" or "keyspace.name", quoted or not.
func parseSequence(s string) (keyspace, name string, ok bool) {
	t := &tokens{s: s}
	var parts []string
	sep := "."
	for ; sep == "."; sep = t.next() {
		part, err := t.sequencePart()
		if err != nil {
			return "", "", false
		}
		parts = append(parts, part)
	}
	switch {
	case sep != "" || slices.Contains(parts, ""):
	case len(parts) == 1:
		return "", parts[0], true
	case len(parts) == 2:
		return parts[0], parts[1], true
	}
	return "", "", false
}

// sequencePart reads one name; Vitess takes a dash in it too.
func (t *tokens) sequencePart() (string, error) {
	name, err := t.name()
	for err == nil && t.peek() == "-" {
		name += t.next()
		rest := t.next()
		if rest == "" || !isWord(rest[0]) {
			return "", fmt.Errorf("name wanted, found %q", rest)
		}
		name += rest
	}
	return name, err
}

// is tells whether a VSchema's auto_increment names this sequence.
func (s sequenceRecord) is(a *topo.AutoIncrement) bool {
	ks, name, ok := parseSequence(a.Sequence)
	return ok && (ks == "" || ks == s.Keyspace) && name == s.Name && strings.EqualFold(a.Column, s.Column)
}

// checkAutoIncrement looks at the AUTO_INCREMENT columns of the tables that are spread, and says which sequences replace them.
func (sh *sharding) checkAutoIncrement(fs *findings, o CreateOptions) []sequenceRecord {
	warn := func(object, message, fix string) {
		fs.add(Finding{Code: CodeAutoIncrement, Severity: SeverityWarning, Side: SideTarget, Object: object, Message: message, Fix: fix})
	}
	if o.AutoIncrement == AutoIncrementReplace && !sh.vschema.Sharded {
		warn(sh.keyspace, fmt.Sprintf("keyspace %s is not sharded: AUTO_INCREMENT stays, and no sequences are made", sh.keyspace), "leave AutoIncrement out")
	}
	var seqs []sequenceRecord
	for _, t := range sh.tables {
		column := sh.autoIncrement[t.Name]
		if column == "" || !sh.spread(t.Name) {
			continue
		}
		what := fmt.Sprintf("column %s of table %s", ident(column), ident(t.Name))
		entry := sh.vschema.Tables[t.Name].AutoIncrement
		switch {
		case o.AutoIncrement == AutoIncrementReplace:
			if s, ok := sh.sequence(fs, o, t, column); ok {
				seqs = append(seqs, s)
			}
		case o.AutoIncrement == AutoIncrementLeave && len(sh.shards) > 1:
			warn(t.Name, what+" stays AUTO_INCREMENT: each shard counts for itself, and hands out ids that another one has given already",
				"give AutoIncrement REMOVE or REPLACE")
		case o.AutoIncrement == AutoIncrementRemove && entry == nil:
			warn(t.Name, what+" is AUTO_INCREMENT at the source and not on the target: rows need an id when they are inserted",
				"give AutoIncrement REPLACE and a GlobalKeyspace, or add auto_increment to the table in the VSchema")
		case o.AutoIncrement == AutoIncrementRemove:
			warn(t.Name, fmt.Sprintf("%s gets its ids from sequence %s, which nobody sets above the ids that are moved", what, entry.Sequence),
				"give AutoIncrement REPLACE and a GlobalKeyspace, or set next_id of the sequence by hand before the tables are written")
		}
	}
	if len(seqs) > 0 && o.GlobalKeyspace == "" {
		var names []string
		for _, s := range seqs {
			names = append(names, ident(s.Table))
		}
		fs.add(Finding{
			Code: CodeSequence, Side: SideTarget, Object: "GlobalKeyspace",
			Message: "AutoIncrement is REPLACE and there is no GlobalKeyspace for the sequences of " + strings.Join(names, ", "),
			Fix:     "name a keyspace that is not sharded",
		})
	}
	return seqs
}

// sequence is the one that the table's ids are to come from. One that the VSchema has for the table already is taken.
func (sh *sharding) sequence(fs *findings, o CreateOptions, t *replication.Table, column string) (s sequenceRecord, ok bool) {
	add := func(sev Severity, message, fix string) {
		fs.add(Finding{Code: CodeSequence, Severity: sev, Side: SideTarget, Object: t.Name, Message: message, Fix: fix})
	}
	s = sequenceRecord{Table: t.Name, Column: column, Keyspace: o.GlobalKeyspace, Name: t.Name + "_seq"}
	i := slices.IndexFunc(t.Columns, func(c replication.Column) bool { return strings.EqualFold(c.Name, column) })
	if i >= 0 && t.Columns[i].Kind != replication.KindInt && t.Columns[i].Kind != replication.KindUint {
		add(SeverityError, fmt.Sprintf("AUTO_INCREMENT column %s of table %s is %s: a sequence gives out integers", ident(column), ident(t.Name), t.Columns[i].Type),
			"give AutoIncrement REMOVE, or make the column an integer")
		return s, false
	}
	if entry := sh.vschema.Tables[t.Name].AutoIncrement; entry != nil {
		keyspace, name, readable := parseSequence(entry.Sequence)
		why := ""
		switch {
		case !strings.EqualFold(entry.Column, column):
			why = fmt.Sprintf("is for column %s, not for %s", ident(entry.Column), ident(column))
		case !readable:
			why = fmt.Sprintf("names a sequence that can't be read: %q", entry.Sequence)
		case keyspace != "" && keyspace != o.GlobalKeyspace:
			why = fmt.Sprintf("names a sequence of keyspace %s, not of %s", keyspace, o.GlobalKeyspace)
		}
		if why != "" {
			add(SeverityError, fmt.Sprintf("auto_increment of table %s in the VSchema %s", ident(t.Name), why), "correct the entry, which is never changed here, or the options")
			return s, false
		}
		if name != s.Name {
			add(SeverityWarning, fmt.Sprintf("table %s has sequence %s in the VSchema already: it is used, and no %s is made", ident(t.Name), entry.Sequence, s), "")
		}
		s.Name = name
		return s, true
	}
	if why := checkIdentifier(s.Name); why != "" {
		add(SeverityError, fmt.Sprintf("sequence %s of table %s can't be made: its name is %s", ident(s.Name), ident(t.Name), why),
			"add auto_increment with another sequence to the table in the VSchema")
		return s, false
	}
	return s, true
}
