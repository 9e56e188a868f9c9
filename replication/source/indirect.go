package source

import (
	"context"
	"fmt"
	"strings"
)

// indirect are the names of other things than tables by which a statement may change rows of the opened tables: views,
// tables with triggers, stored routines, tables that foreign keys refer to, MERGE tables. They are of all schemas, and
// not followed any further: what leads to an opened table over several of them begins with one.
type indirect struct {
	// names are in lower case. They only grow, since what was dropped may be in older parts of the log.
	names map[string]bool
	// hidden says that the user may not see all of them.
	hidden bool
	// fresh is set until the log has a statement that may add one.
	fresh bool
}

// indirectNames lists them. What the server brings itself belongs to mysql.sys, and changes no user's tables. CALL is not
// in the log, but what the procedure does; a function is, as SELECT f().
const indirectNames = "SELECT TABLE_NAME FROM information_schema.VIEWS WHERE DEFINER <> 'mysql.sys@localhost'" +
	" UNION SELECT EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE DEFINER <> 'mysql.sys@localhost'" +
	" UNION SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE DEFINER <> 'mysql.sys@localhost'" +
	" UNION SELECT REFERENCED_TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS" +
	" UNION SELECT TABLE_NAME FROM information_schema.TABLES WHERE ENGINE = 'MRG_MYISAM'"

// readIndirect adds what there is now.
func (s *Source) readIndirect(ctx context.Context, in *indirect) error {
	grants, err := s.strings(ctx, "SHOW GRANTS")
	if err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	if in.hidden = !seesAll(grants); in.hidden {
		return nil
	}
	names, err := s.strings(ctx, indirectNames)
	if err != nil {
		return fmt.Errorf("names of views, triggers, routines and foreign keys: %w", err)
	}
	if in.names == nil {
		in.names = make(map[string]bool, len(names))
	}
	for _, n := range names {
		in.names[strings.ToLower(n)] = true
	}
	in.fresh = true
	return nil
}

// strings returns the only column of a query's rows.
func (s *Source) strings(ctx context.Context, query string) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// seesAll tells, from SHOW GRANTS, whether information_schema shows a user all that indirectNames asks for: SELECT on all
// schemas shows views, routines and foreign keys, TRIGGER on all schemas triggers. A REVOKE takes some schemas away.
func seesAll(grants []string) bool {
	selects, triggers := false, false
	for _, line := range grants {
		if strings.HasPrefix(line, "REVOKE ") {
			return false
		}
		list, _, global := strings.Cut(strings.TrimPrefix(line, "GRANT "), " ON *.* TO ")
		if !global {
			continue
		}
		for p := range strings.SplitSeq(list, ", ") {
			selects = selects || p == "SELECT" || p == "ALL PRIVILEGES"
			triggers = triggers || p == "TRIGGER" || p == "ALL PRIVILEGES"
		}
	}
	return selects && triggers
}

// concerns tells whether the statement may change rows by one of the names.
func (in *indirect) concerns(s *statement) bool {
	if !s.split {
		return true
	}
	for _, t := range s.all {
		if (t.isName() || !s.known && t.kind == tokenString) && in.names[strings.ToLower(t.text)] {
			return true
		}
	}
	return false
}
