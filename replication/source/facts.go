package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// Facts are what matters of a server before it is read. They are not judged here. Settings that a server does
// not have are "".
type Facts struct {
	Version string
	// Flavor is replication.FlavorMySQL or replication.FlavorMariaDB.
	Flavor     replication.Flavor
	ServerUUID string
	ServerID   uint32
	// LogBin, BinlogFormat, BinlogRowImage, RowValueOptions, GTIDMode and EnforceGTIDConsistency are the global settings as
	// the server prints them: "1" or "ON", "ROW", "FULL", "PARTIAL_JSON", "ON", "ON".
	LogBin, BinlogFormat, BinlogRowImage, RowValueOptions string
	GTIDMode, EnforceGTIDConsistency                      string
	// Executed and Purged are the sets of GTIDs of that name; zero on MariaDB.
	Executed, Purged        replication.Position
	ReadOnly, SuperReadOnly bool
	// Replica says that the server replicates from another one; LogReplicaUpdates, that it logs what it gets. Replica is
	// false if the user may not know (ReplicationClient).
	Replica, LogReplicaUpdates bool
	// TimeZones says that the named time zones are loaded.
	TimeZones bool
	// LogsCascades says that the server logs the row changes that foreign keys make by themselves. What a replica logs is what
	// its own source does.
	LogsCascades bool
	// ReplicationSlave and ReplicationClient say that the user has these privileges: to read the log, and to ask
	// where it ends. They were tried, so roles count.
	ReplicationSlave, ReplicationClient bool
	// Prepared is the number of XA transactions that are prepared now; -1 if the user may not know. A stream
	// that begins while there are some can't know their rows: see ErrPreparedBefore.
	Prepared int
}

// Inspect asks a server for its facts.
func Inspect(ctx context.Context, db *sql.DB) (Facts, error) {
	f, err := inspect(ctx, db)
	if err != nil {
		return Facts{}, mark(ctx, fmt.Errorf("inspect the server: %w", err))
	}
	return f, nil
}

func inspect(ctx context.Context, db *sql.DB) (Facts, error) {
	f := Facts{Flavor: replication.FlavorMySQL}
	if err := db.QueryRowContext(ctx, "SELECT VERSION(), @@server_id").Scan(&f.Version, &f.ServerID); err != nil {
		return f, err
	}
	if strings.Contains(f.Version, "MariaDB") {
		f.Flavor = replication.FlavorMariaDB
	}
	if err := f.settings(ctx, db); err != nil {
		return f, err
	}
	zone := sql.NullString{}
	if err := db.QueryRowContext(ctx, "SELECT CONVERT_TZ('2024-01-01 00:00:00', 'Europe/Berlin', 'UTC')").Scan(&zone); err != nil {
		return f, err
	}
	f.TimeZones = zone.Valid
	return f, f.tryPrivileges(ctx, db)
}

// settings reads the global variables.
func (f *Facts) settings(ctx context.Context, db *sql.DB) error {
	var executed, purged, readOnly, superReadOnly, logUpdates, logSlaveUpdates, native string
	fields := map[string]*string{
		"server_uuid": &f.ServerUUID, "log_bin": &f.LogBin, "binlog_format": &f.BinlogFormat, "binlog_row_image": &f.BinlogRowImage,
		"binlog_row_value_options": &f.RowValueOptions, "gtid_mode": &f.GTIDMode, "enforce_gtid_consistency": &f.EnforceGTIDConsistency,
		"gtid_executed": &executed, "gtid_purged": &purged, "read_only": &readOnly, "super_read_only": &superReadOnly,
		"log_replica_updates": &logUpdates, "log_slave_updates": &logSlaveUpdates, "innodb_native_foreign_keys": &native,
	}
	var names []string
	for name := range fields {
		names = append(names, sqltext.String(name))
	}
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+strings.Join(names, ",")+")")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		if p := fields[strings.ToLower(name)]; p != nil {
			*p = value
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	f.ReadOnly, f.SuperReadOnly = isOn(readOnly), isOn(superReadOnly)
	f.LogsCascades = logsCascades(f.Version, native)
	f.LogReplicaUpdates = isOn(logUpdates) || isOn(logSlaveUpdates)
	if f.Flavor != replication.FlavorMySQL {
		return nil
	}
	var errs [2]error
	f.Executed, errs[0] = serverPosition([]byte(executed))
	f.Purged, errs[1] = serverPosition([]byte(purged))
	return errors.Join(errs[:]...)
}

func isOn(value string) bool { return strings.EqualFold(value, "ON") || value == "1" }

// tryPrivileges finds out what the user may do by doing it.
func (f *Facts) tryPrivileges(ctx context.Context, db *sql.DB) error {
	// Each statement has had two names; a server knows at least one.
	try := func(statements ...string) (rows int, allowed bool, err error) {
		for _, q := range statements {
			rows, err = countRows(ctx, db, q)
			if code, _ := mysqlerr.Code(err); code != 1064 { // syntax error
				break
			}
		}
		code, _ := mysqlerr.Code(err)
		if mysqlerr.AccessDenied(err) || code == 1401 { // XA RECOVER has an error of its own
			return 0, false, nil
		}
		return rows, err == nil, err
	}
	var err error
	if _, f.ReplicationSlave, err = try("SHOW REPLICAS", "SHOW SLAVE HOSTS"); err != nil {
		return err
	}
	replicas := 0
	if replicas, f.ReplicationClient, err = try("SHOW REPLICA STATUS", "SHOW SLAVE STATUS"); err != nil {
		return err
	}
	f.Replica = replicas > 0
	prepared, allowed, err := try("XA RECOVER")
	if f.Prepared = prepared; !allowed {
		f.Prepared = -1
	}
	return err
}

func countRows(ctx context.Context, db *sql.DB, query string) (n int, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}
