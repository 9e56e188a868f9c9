package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

const (
	// maxReplicaLag is how far behind its primary a replica may be and still be taken before one that is less so.
	maxReplicaLag = 30 * time.Second
	// candidateTimeout bounds the questions to one server.
	candidateTimeout = 5 * time.Second
)

// A NoSourceError says why none of the servers of a source shard that the workflow may read from can be read.
type NoSourceError struct {
	// Servers are the candidates, best first; there is at least one.
	Servers []SourceServerError
}

func (e *NoSourceError) Error() string {
	if len(e.Servers) == 1 {
		return e.Servers[0].Error()
	}
	texts := make([]string, len(e.Servers))
	for i := range e.Servers {
		texts[i] = strings.ReplaceAll(e.Servers[i].Error(), "\n", "; ")
	}
	return fmt.Sprintf("none of %d servers can be read: %s", len(texts), strings.Join(texts, "; "))
}

// Unwrap returns the errors of the servers.
func (e *NoSourceError) Unwrap() []error {
	errs := make([]error, len(e.Servers))
	for i := range e.Servers {
		errs[i] = &e.Servers[i]
	}
	return errs
}

// Transient tells whether one of the servers may be readable later without anybody's doing.
func (e *NoSourceError) Transient() bool {
	for i := range e.Servers {
		if e.Servers[i].Transient() {
			return true
		}
	}
	return false
}

// A SourceServerError says why a server of a source can't be read.
type SourceServerError struct {
	// Addr is the server's address, Tablet the name of its tablet where it has one, Type what it is in its shard.
	Addr, Tablet string
	Type         topo.TabletType
	// Err says why.
	Err error
	// Passing says that it may be readable later: it does not answer, or replicates and has not got far enough.
	Passing bool
}

func (e *SourceServerError) Error() string {
	switch _, known := connectError(e.Err); {
	case known: // names the server
		return e.Err.Error()
	case e.Tablet != "":
		return fmt.Sprintf("%s %s (%s): %v", strings.ToLower(e.Type.String()), e.Tablet, e.Addr, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", strings.ToLower(e.Type.String()), e.Addr, e.Err)
}

// Unwrap returns the reason.
func (e *SourceServerError) Unwrap() error { return e.Err }

// Transient is Passing.
func (e *SourceServerError) Transient() bool { return e.Passing }

// A picker finds the server of a source shard to read from.
type picker struct {
	m     *Migrator
	mount *openMount
	src   SourceName
	shard string
	sel   topo.TabletSelector
	// read are the positions up to which the shard was read before, by each of the streams.
	read []replication.Position
	// any takes a server whose settings are wrong, if there is no better one.
	any bool
}

// A candidate is a server that was looked at.
type candidate struct {
	*sourceShard
	// err says why it can't be read.
	err *SourceServerError
	// worse is a reason to prefer another one, and lag how far behind its primary it is, or may be.
	worse string
	lag   time.Duration
}

// pick connects to the first server in the order of preference that can be read and is not behind; without one, to the one
// that is behind least.
func (p *picker) pick(ctx context.Context) (*sourceShard, error) {
	ends, err := p.mount.Endpoints(ctx, p.src.Keyspace, p.shard, p.sel)
	if err != nil {
		return nil, mountError(p.src, err)
	}
	none := &NoSourceError{}
	var best, wrong *candidate
	for _, e := range ends {
		c, err := p.look(ctx, e)
		if err != nil {
			return nil, err
		}
		switch {
		case c.err != nil:
			none.Servers = append(none.Servers, *c.err)
			if errors.Is(c.err, replication.ErrHistory) && !c.err.Passing && !c.replica {
				// The primary's history is the shard's. A server that has more is one that was left behind.
				return nil, &NoSourceError{Servers: []SourceServerError{*c.err}}
			}
			if _, settings := errors.AsType[*settingsError](c.err.Err); settings && wrong == nil {
				wrong = c
			}
		case c.worse == "":
			return c.sourceShard, nil
		case best == nil, c.lag < best.lag:
			best = c
		}
	}
	switch {
	case best != nil:
		p.m.log.Warn("a source server is read although it may be behind; there is no better one",
			"source", p.src.String(), "source shard", p.shard, "server", best.cfg.Addr, "reason", best.worse)
		return best.sourceShard, nil
	case wrong != nil && p.any:
		return wrong.sourceShard, nil
	}
	return nil, none
}

// look connects to a server and finds out whether it can be read. Its error is one that does not concern the server.
func (p *picker) look(ctx context.Context, e mount.Endpoint) (*candidate, error) {
	c := &candidate{sourceShard: &sourceShard{shard: p.shard, replica: e.Type != topo.TabletPrimary, end: e, sel: p.sel}}
	var err error
	c.cfg, err = p.m.login(ctx, mount.Server{Cluster: p.src.Mount, Keyspace: p.src.Keyspace, Shard: p.shard, Addr: e.Addr(), Alias: e.Alias})
	if err != nil {
		return nil, err
	}
	c.cfg.Database = e.Database
	passing := false
	admin := c.cfg
	admin.Database = ""
	if c.admin, err = p.m.pools.db(ctx, admin, forAdmin); err == nil {
		// A pool that was opened before says nothing about the server of today.
		cctx, cancel := context.WithTimeout(ctx, candidateTimeout)
		defer cancel()
		passing, err = p.judge(cctx, c)
		err = answerError(cctx, c.cfg, err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		return c, nil
	}
	_, unreachable := errors.AsType[*mount.UnreachableError](err)
	c.err = &SourceServerError{
		Addr: c.cfg.Addr, Type: e.Type, Err: err,
		Passing: passing || unreachable || replication.Transient(err) || mysqlerr.Transient(err, mysqlerr.Source),
	}
	if !e.Alias.IsZero() {
		c.err.Tablet = e.Alias.String()
	}
	return c, nil
}

// answerError makes an error of asking one of package mount if it is about the way to the server or the account. ctx is the one that the
// server was asked with.
func answerError(ctx context.Context, cfg mysqlconn.Config, err error) error {
	_, told := connectError(err)
	switch {
	case err == nil, told:
		return err
	case mysqlerr.AccessDenied(err):
		return &mount.AccessError{Addr: cfg.Addr, User: cfg.User, Err: err}
	case ctx.Err() != nil, mysqlerr.Network(err):
		return &mount.UnreachableError{Addr: cfg.Addr, Err: err}
	}
	return err
}

// A settingsError says which settings and privileges keep a server from being a source.
type settingsError struct{ findings []Finding }

// settingsErrorOf is nil if nothing is wrong.
func settingsErrorOf(fs findings) error {
	e := &settingsError{}
	for _, f := range fs.list {
		if f.Severity == SeverityError {
			e.findings = append(e.findings, f)
		}
	}
	if len(e.findings) == 0 {
		return nil
	}
	return e
}

func (e *settingsError) Error() string {
	texts := make([]string, len(e.findings))
	for i, f := range e.findings {
		texts[i] = f.Message
	}
	return strings.Join(texts, "; ")
}

// judge says what keeps a server from being read, and whether that may pass.
func (p *picker) judge(ctx context.Context, c *candidate) (passing bool, err error) {
	s, err := inspectServer(ctx, c.admin, c.cfg.Addr)
	if err != nil {
		return false, err
	}
	var fs findings
	checkSourceServer(&fs, s, c.replica)
	if err := settingsErrorOf(fs); err != nil {
		return true, err // somebody may correct them
	}
	r, err := readReplication(ctx, c.admin)
	switch {
	case mysqlerr.AccessDenied(err):
		r = &replicationStatus{unknown: true}
	case err != nil:
		return false, err
	}
	if c.replica {
		if passing, err := p.judgeReplica(c, s, r); err != nil {
			return passing, err
		}
	}
	return p.judgeHistory(ctx, c, r)
}

// judgeReplica looks at how a replica gets its data.
func (p *picker) judgeReplica(c *candidate, s *server, r *replicationStatus) (passing bool, err error) {
	switch {
	case r.unknown, s.replicatesOtherwise():
	case r.channels == 0: // a frozen copy, or a server that does without
		c.worse, c.lag = "it is a replica of no server", maxReplicaLag
	case r.stopped != "":
		return true, fmt.Errorf("replication has stopped: %s", r.stopped)
	case r.connecting:
		c.worse, c.lag = "its primary does not answer it", maxReplicaLag
	case r.lag > maxReplicaLag:
		c.worse, c.lag = fmt.Sprintf("it is %v behind its primary", r.lag), r.lag
	}
	return false, nil
}

// judgeHistory checks that the server has, or may get, what was read before, and still has the log of what comes after.
func (p *picker) judgeHistory(ctx context.Context, c *candidate, r *replicationStatus) (passing bool, err error) {
	for _, read := range p.read {
		if read.Flavor() != replication.FlavorMySQL {
			continue
		}
		var uuid, purged, owned, lacks string
		err := c.admin.QueryRowContext(ctx, "SELECT @@server_uuid, GTID_SUBTRACT(@@GLOBAL.gtid_purged, ?), @@GLOBAL.gtid_owned, GTID_SUBTRACT(?, @@GLOBAL.gtid_executed)",
			read.Text(), read.Text()).Scan(&uuid, &purged, &owned, &lacks)
		switch {
		case err != nil:
			return false, fmt.Errorf("position: %w", err)
		case purged != "":
			return false, fmt.Errorf("server %s: %w: %.200s", uuid, replication.ErrPositionGone, purged)
		case lacks == "" || inFlight(owned, lacks):
		case r.channels > 0 && r.stopped == "":
			return true, fmt.Errorf("server %s has not caught up with what was read before: %w: %.200s", uuid, replication.ErrHistory, lacks)
		default:
			return false, fmt.Errorf("server %s lacks what was read before from another one: %w: %.200s", uuid, replication.ErrHistory, lacks)
		}
	}
	return false, nil
}

// gtidOwner is a thread id in @@gtid_owned, as in uuid:5#12.
var gtidOwner = regexp.MustCompile(`#[0-9]+`)

// inFlight tells whether all of a set of GTIDs are being executed: they are in the log, where they were read, and will be visible.
func inFlight(owned, gtids string) bool {
	all, err := replication.ParsePosition("MySQL56/" + gtidOwner.ReplaceAllString(owned, ""))
	if err != nil {
		return false
	}
	some, err := replication.ParsePosition("MySQL56/" + gtids)
	return err == nil && all.Covers(some)
}

// A replicationStatus is what a server says about where its data comes from.
type replicationStatus struct {
	// unknown is set when the account may not ask.
	unknown  bool
	channels int
	// stopped says what has stopped, and why, as far as the server tells; connecting that a channel's primary does not answer.
	stopped    string
	connecting bool
	lag        time.Duration
}

// readReplication asks a server for its replication channels.
func readReplication(ctx context.Context, db *sql.DB) (*replicationStatus, error) {
	r := &replicationStatus{}
	err := queryMaps(ctx, db, "SHOW REPLICA STATUS", r.add)
	const syntax = 1064
	if code, _ := mysqlerr.Code(err); code == syntax { // before MySQL 8.0.22
		err = queryMaps(ctx, db, "SHOW SLAVE STATUS", r.add)
	}
	return r, err
}

// add takes one channel's line.
func (r *replicationStatus) add(line map[string]string) {
	get := func(names ...string) string {
		for _, name := range names {
			if v := line[name]; v != "" {
				return v
			}
		}
		return ""
	}
	r.channels++
	receives, applies := get("Replica_IO_Running", "Slave_IO_Running"), get("Replica_SQL_Running", "Slave_SQL_Running")
	switch {
	case applies == "No":
		r.stopped = "it applies nothing"
		if e := get("Last_SQL_Error"); e != "" {
			r.stopped += ": " + e
		}
	case receives == "No":
		r.stopped = "it receives nothing"
		if e := get("Last_IO_Error"); e != "" {
			r.stopped += ": " + e
		}
	case receives != "Yes":
		r.connecting = true
	}
	if s, err := strconv.ParseInt(get("Seconds_Behind_Source", "Seconds_Behind_Master"), 10, 64); err == nil {
		r.lag = max(r.lag, time.Duration(s)*time.Second)
	}
}

// queryMaps calls add for every row of a query, with its columns by name; NULL is "".
func queryMaps(ctx context.Context, db *sql.DB, query string, add func(map[string]string)) error {
	return queryColumns(ctx, db, query, func(columns, values []string) {
		line := make(map[string]string, len(columns))
		for i, name := range columns {
			line[name] = values[i]
		}
		add(line)
	})
}
