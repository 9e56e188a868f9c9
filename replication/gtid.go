package replication

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Flavor is a dialect of global transaction ids. Its values are those that go-mysql uses.
type Flavor string

// The flavors; the zero Flavor is that of the zero Position.
const (
	FlavorMySQL   Flavor = "mysql"
	FlavorMariaDB Flavor = "mariadb"
)

// maxNumber is the largest transaction number of a MySQL GTID.
const maxNumber = math.MaxInt64 - 1

// A GTID names one transaction of a source: by server UUID, tag and number (MySQL), or by domain,
// server and sequence (MariaDB). It is comparable; the zero GTID names none.
type GTID struct {
	flavor         Flavor
	sid            sid
	domain, server uint32
	number         uint64
}

// A sid is what the numbers of MySQL GTIDs count within. The empty tag is that of untagged GTIDs.
type sid struct {
	uuid [16]byte
	tag  string
}

func (s sid) compare(t sid) int {
	return cmp.Or(bytes.Compare(s.uuid[:], t.uuid[:]), strings.Compare(s.tag, t.tag))
}

// NewMySQLGTID returns the GTID of a MySQL event. The tag may be empty; tags are case-insensitive. A
// number out of range (0, as anonymous transactions have it) or an impossible tag is ErrMalformedPosition.
func NewMySQLGTID(uuid [16]byte, tag string, number uint64) (GTID, error) {
	if number == 0 || number > maxNumber {
		return GTID{}, fmt.Errorf("%w: transaction number %d", ErrMalformedPosition, number)
	}
	if tag != "" {
		var err error
		if tag, err = parseTag(tag); err != nil {
			return GTID{}, err
		}
	}
	return GTID{flavor: FlavorMySQL, sid: sid{uuid, tag}, number: number}, nil
}

// NewMariaDBGTID returns the GTID of a MariaDB event. A sequence of 0 is ErrMalformedPosition.
func NewMariaDBGTID(domain, server uint32, sequence uint64) (GTID, error) {
	if sequence == 0 {
		return GTID{}, fmt.Errorf("%w: sequence 0", ErrMalformedPosition)
	}
	return GTID{flavor: FlavorMariaDB, domain: domain, server: server, number: sequence}, nil
}

// ParseGTID parses "uuid:5", "uuid:tag:5" or "0-1-5". Errors are ErrMalformedPosition.
func ParseGTID(s string) (GTID, error) {
	if !strings.Contains(s, ":") {
		return parseMariaDBGTID(strings.TrimSpace(s))
	}
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return GTID{}, fmt.Errorf("%w: %d parts in a GTID", ErrMalformedPosition, len(parts))
	}
	uuid, err := parseUUID(strings.TrimSpace(parts[0]))
	if err != nil {
		return GTID{}, err
	}
	tag := ""
	if len(parts) == 3 {
		if tag, err = parseTag(strings.TrimSpace(parts[1])); err != nil {
			return GTID{}, err
		}
	}
	n, err := parseNumber(strings.TrimSpace(parts[len(parts)-1]))
	if err != nil {
		return GTID{}, err
	}
	return NewMySQLGTID(uuid, tag, n)
}

// IsZero tells whether g names no transaction.
func (g GTID) IsZero() bool { return g == GTID{} }

// Flavor is the dialect of g, empty for the zero GTID.
func (g GTID) Flavor() Flavor { return g.flavor }

// String is what ParseGTID parses; empty for the zero GTID.
func (g GTID) String() string {
	switch g.flavor {
	case FlavorMySQL:
		b := appendUUID(nil, g.sid.uuid)
		if g.sid.tag != "" {
			b = append(append(b, ':'), g.sid.tag...)
		}
		return string(strconv.AppendUint(append(b, ':'), g.number, 10))
	case FlavorMariaDB:
		return string(g.appendMariaDB(nil))
	}
	return ""
}

func (g GTID) appendMariaDB(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(g.domain), 10)
	b = strconv.AppendUint(append(b, '-'), uint64(g.server), 10)
	return strconv.AppendUint(append(b, '-'), g.number, 10)
}

func parseMariaDBGTID(s string) (GTID, error) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return GTID{}, fmt.Errorf("%w: %q is not domain-server-sequence", ErrMalformedPosition, clip(s))
	}
	var n [3]uint64
	for i, bits := range []int{32, 32, 64} {
		var err error
		if n[i], err = strconv.ParseUint(parts[i], 10, bits); err != nil {
			return GTID{}, fmt.Errorf("%w: %q: %w", ErrMalformedPosition, clip(s), err)
		}
	}
	return NewMariaDBGTID(uint32(n[0]), uint32(n[1]), n[2])
}

func parseUUID(s string) (uuid [16]byte, err error) {
	bad := fmt.Errorf("%w: %q is not a server UUID", ErrMalformedPosition, clip(s))
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return uuid, bad
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(uuid[:], []byte(digits)); err != nil {
		return uuid, bad
	}
	return uuid, nil
}

func appendUUID(b []byte, u [16]byte) []byte {
	b = append(hex.AppendEncode(b, u[:4]), '-')
	b = append(hex.AppendEncode(b, u[4:6]), '-')
	b = append(hex.AppendEncode(b, u[6:8]), '-')
	b = append(hex.AppendEncode(b, u[8:10]), '-')
	return hex.AppendEncode(b, u[10:])
}

// parseTag checks a tag by the server's rule and returns it in lower case.
func parseTag(s string) (string, error) {
	t := strings.ToLower(s)
	ok := len(s) > 0 && len(s) <= 32 && len(t) == len(s)
	for i := 0; ok && i < len(t); i++ {
		c := t[i]
		ok = c == '_' || c >= 'a' && c <= 'z' || i > 0 && c >= '0' && c <= '9'
	}
	if !ok {
		return "", fmt.Errorf("%w: %q is not a GTID tag", ErrMalformedPosition, clip(s))
	}
	return t, nil
}

func parseNumber(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || n > maxNumber {
		return 0, fmt.Errorf("%w: %q is not a transaction number", ErrMalformedPosition, clip(s))
	}
	return n, nil
}
