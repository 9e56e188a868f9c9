package source

import "github.com/tablehaul/tablehaul/replication"

// Query is the statement of a Read.
func Query(s *Source, t *replication.Table, span replication.Span, limit replication.Limit) (string, error) {
	q, err := s.reader(t).query(span, limit, "")
	return string(q), err
}

// DropIdle closes the connections that wait for use.
func DropIdle(s *Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.mu.idle {
		c.close()
	}
	s.mu.idle = nil
}
