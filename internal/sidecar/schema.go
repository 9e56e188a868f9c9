package sidecar

// version is the schema version that this code writes and reads.
const version = 1

// tables are the names of all tables, in the order in which they are made.
var tables = []string{
	"sidecar_version", "vreplication", "vreplication_epoch", "vreplication_pos", "copy_state", "post_copy_action", "source_definition",
	"vreplication_log", "vdiff", "vdiff_table", "vdiff_log",
}

const tableOptions = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

// definitions are the bodies of the CREATE TABLE statements, by table. Times are Unix seconds where the column is a
// bigint that Vitess has too.
var definitions = map[string]string{
	"sidecar_version": `(
  id int NOT NULL PRIMARY KEY,
  version int NOT NULL,
  created_database tinyint NOT NULL)`,
	"vreplication": `(
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  workflow varbinary(1000) NOT NULL,
  source longtext NOT NULL,
  source_shard varbinary(255) NOT NULL,
  pos longblob NOT NULL,
  stop_pos longblob NULL,
  cell varbinary(1000) NOT NULL,
  tablet_types varbinary(255) NOT NULL,
  time_updated bigint NOT NULL DEFAULT 0,
  transaction_timestamp bigint NOT NULL DEFAULT 0,
  state varbinary(100) NOT NULL,
  message mediumtext NOT NULL,
  db_name varbinary(255) NOT NULL,
  rows_copied bigint NOT NULL DEFAULT 0,
  tags varbinary(1024) NOT NULL,
  time_heartbeat bigint NOT NULL DEFAULT 0,
  workflow_type int NOT NULL DEFAULT 0,
  workflow_sub_type int NOT NULL DEFAULT 0,
  defer_secondary_keys tinyint NOT NULL DEFAULT 0,
  options longtext NOT NULL,
  lag_ms bigint NOT NULL DEFAULT -1,
  progress longtext NOT NULL,
  UNIQUE KEY stream_idx (workflow, db_name, source_shard))`,
	"vreplication_epoch": `(
  vrepl_id bigint NOT NULL PRIMARY KEY,
  epoch bigint NOT NULL,
  owner varbinary(255) NOT NULL,
  taken_at bigint NOT NULL)`,
	"vreplication_pos": `(
  vrepl_id bigint NOT NULL,
  slot int NOT NULL,
  seq bigint NOT NULL,
  pos longblob NOT NULL,
  transaction_timestamp bigint NOT NULL,
  ddl longtext NULL,
  PRIMARY KEY (vrepl_id, slot))`,
	"copy_state": `(
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  vrepl_id bigint NOT NULL,
  table_name varbinary(256) NOT NULL,
  lo longblob NULL,
  hi longblob NULL,
  rows_copied bigint NOT NULL,
  bytes_copied bigint NOT NULL,
  KEY stream_idx (vrepl_id, table_name))`,
	"post_copy_action": `(
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  vrepl_id bigint NOT NULL,
  table_name varbinary(256) NOT NULL,
  action longtext NOT NULL,
  UNIQUE KEY stream_idx (vrepl_id, table_name))`,
	"source_definition": `(
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  vrepl_id bigint NOT NULL,
  table_name varbinary(256) NOT NULL,
  since varbinary(255) NOT NULL,
  definition longtext NOT NULL,
  read_at longblob NOT NULL,
  UNIQUE KEY stream_idx (vrepl_id, table_name, since))`,
	"vreplication_log": `(
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  vrepl_id bigint NOT NULL,
  type varbinary(256) NOT NULL,
  state varbinary(100) NOT NULL,
  created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  message mediumtext NOT NULL,
  count bigint NOT NULL DEFAULT 1,
  KEY stream_idx (vrepl_id, id))`,
	"vdiff": `(
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  vdiff_uuid varbinary(64) NOT NULL,
  workflow varbinary(1000) NOT NULL,
  keyspace varbinary(256) NOT NULL,
  shard varbinary(255) NOT NULL,
  db_name varbinary(255) NOT NULL,
  state varbinary(64) NOT NULL,
  options longtext NOT NULL,
  created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  started_at timestamp(6) NULL,
  liveness_timestamp timestamp(6) NULL,
  completed_at timestamp(6) NULL,
  last_error mediumtext NOT NULL,
  UNIQUE KEY uuid_idx (vdiff_uuid),
  KEY workflow_idx (keyspace, workflow))`,
	"vdiff_table": `(
  vdiff_id bigint NOT NULL,
  table_name varbinary(256) NOT NULL,
  state varbinary(64) NOT NULL,
  lastpk longblob NULL,
  table_rows bigint NOT NULL DEFAULT 0,
  rows_compared bigint NOT NULL DEFAULT 0,
  mismatch tinyint NOT NULL DEFAULT 0,
  report longtext NOT NULL,
  created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (vdiff_id, table_name))`,
	"vdiff_log": `(
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  vdiff_id bigint NOT NULL,
  created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  message mediumtext NOT NULL,
  KEY vdiff_idx (vdiff_id, id))`,
}
