package source

import (
	"context"
	"fmt"
	"unicode/utf8"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// A querySession is what the status variables of a query event tell about the session.
type querySession struct {
	sqlMode uint64
	// client is the id of a collation of character_set_client; 0 if it is not there.
	client uint16
}

// Status variables of a query event, of which the log of MySQL 8.0 and later has those with a size here, in any order.
const (
	statusSQLMode          = 1
	statusCharset          = 4
	statusTimeZone         = 5
	statusCatalog          = 6
	statusInvoker          = 11
	statusUpdatedDatabases = 12
)

// statusSizes are those of the variables whose size is fixed.
var statusSizes = map[byte]int{
	0: 4, statusSQLMode: 8, 3: 4, statusCharset: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1,
}

// overMaxDatabases stands for a number of updated databases that was too large to list them.
const overMaxDatabases = 254

// sessionOf reads the status variables of a query event, up to one that is not known.
func sessionOf(vars []byte) (q querySession) {
	c := cursor{b: vars}
	for len(c.b) > 0 && !c.bad {
		switch code := c.byte(); code {
		case statusSQLMode:
			q.sqlMode = c.uint(8)
		case statusCharset:
			q.client = uint16(c.uint(2))
			c.take(4) // collation_connection, collation_server
		case statusTimeZone, statusCatalog:
			c.take(int(c.byte()))
		case statusInvoker:
			c.take(int(c.byte()))
			c.take(int(c.byte()))
		case statusUpdatedDatabases:
			n := c.byte()
			for ; n > 0 && n != overMaxDatabases && !c.bad; n-- {
				for c.byte() != 0 && !c.bad {
				}
			}
		default:
			size, ok := statusSizes[code]
			if !ok {
				return q
			}
			c.take(size)
		}
	}
	return q
}

// convert converts a statement to UTF-8 from the character set of a collation, as the server does when it reads one. It returns
// false if the text is not of the character set.
func (s *Source) convert(ctx context.Context, text string, collation uint16) (string, bool, error) {
	names, err := s.strings(ctx, fmt.Sprintf("SELECT CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID = %d", collation))
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%w: a statement in the character set of collation %d", ErrUnknownEvent, collation)
	}
	if err != nil {
		return "", false, err
	}
	charset := names[0]
	switch charset {
	case "utf8", "utf8mb3", "utf8mb4", "ascii", "binary":
		return text, true, nil
	}
	list, err := s.strings(ctx, "SELECT CONVERT(_"+charset+" "+string(sqltext.AppendHex(nil, []byte(text)))+" USING utf8mb4)")
	if code, _ := mysqlerr.Code(err); code == gomysql.ER_INVALID_CHARACTER_STRING {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("convert a statement from %s: %w", charset, err)
	}
	return list[0], true, nil
}

// readings returns what a query event's text can mean, the likelier first: most are in the client's character
// set, but what the server writes itself (SAVEPOINT, CREATE TABLE .. SELECT) is in UTF-8 with the same status variables.
func (a *assembler) readings(text string, client uint16) ([]string, error) {
	if client == 0 || isASCII(text) {
		return []string{text}, nil
	}
	converted, ok, err := a.convert(text, client)
	switch {
	case err != nil:
		return nil, err
	case !ok && !utf8.ValidString(text):
		return nil, fmt.Errorf("%w: a statement that is not in its client's character set: %.200q", ErrUnknownEvent, text)
	case !ok, converted == text:
		return []string{text}, nil
	case utf8.ValidString(text):
		return []string{converted, text}, nil
	}
	return []string{converted}, nil
}
