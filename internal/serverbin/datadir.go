package serverbin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// layout changes whenever an initialised data folder of a new kind must replace those in
// the caches.
const layout = "2"

// rootFromAnywhere lets root in by TCP without name resolution; only servers that listen
// on the loopback interface are started from these folders.
const rootFromAnywhere = "CREATE USER 'root'@'%';\nGRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;\n"

// DataDir returns a folder with an initialised, empty data folder of that server:
// root without a password, from any address, and nothing else. It is made once per server version and
// kept in the cache; copy it, don't run a server in it.
func DataDir(ctx context.Context, b *Binary) (string, error) {
	if b.Kind == Etcd {
		return "", errors.New("etcd needs no initialised data folder")
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	parent := filepath.Join(cache, "datadirs")
	dir := filepath.Join(parent, strings.Join([]string{string(b.Kind), b.Version, runtime.GOARCH, layout}, "-"))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("cache folder: %w", err)
	}
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	// One name, so that what a killed run has left goes away.
	scratch := dir + ".init"
	if err := os.RemoveAll(scratch); err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	if err := os.Mkdir(scratch, 0o755); err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	data := filepath.Join(scratch, "data")
	if b.Kind == MySQL {
		err = initMySQL(ctx, b, data)
	} else {
		err = initMariaDB(ctx, b, data)
	}
	if err != nil {
		return "", err
	}
	if err := os.Rename(data, dir); err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	return dir, nil
}

// UserArgs returns the option without which a database server refuses to run as root.
func UserArgs() []string {
	if os.Geteuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

func initMySQL(ctx context.Context, b *Binary, data string) error {
	initFile := data + ".sql"
	if err := os.WriteFile(initFile, []byte(rootFromAnywhere), 0o600); err != nil {
		return fmt.Errorf("initial accounts: %w", err)
	}
	args := []string{"--no-defaults"}
	args = append(args, b.PathArgs()...)
	args = append(args, UserArgs()...)
	args = append(args, "--initialize-insecure", "--datadir="+data, "--init-file="+initFile,
		"--innodb-redo-log-capacity=8388608", "--skip-log-bin")
	argv := b.Command(args...)
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialise %s: %w: %s", data, err, lastLines(out, 3))
	}
	// Every copy makes its own server UUID.
	if err := os.Remove(filepath.Join(data, "auto.cnf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("server uuid: %w", err)
	}
	return nil
}

// initMariaDB does what mariadb-install-db does: it feeds the server its own SQL files.
func initMariaDB(ctx context.Context, b *Binary, data string) error {
	share, err := mariaShare(b)
	if err != nil {
		return err
	}
	var sql bytes.Buffer
	sql.WriteString("create database if not exists mysql;\nuse mysql;\n" +
		"set @skip_auth_anonymous=1;\nset @auth_root_socket=NULL;\n")
	for _, f := range []string{
		"mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql",
		"maria_add_gis_sp_bootstrap.sql", "mysql_sys_schema.sql",
	} {
		text, err := os.ReadFile(filepath.Join(share, f))
		if err != nil {
			return fmt.Errorf("system tables: %w", err)
		}
		sql.Write(text)
		sql.WriteByte('\n')
	}
	sql.WriteString("flush privileges;\n" + rootFromAnywhere)
	if err := os.MkdirAll(filepath.Join(data, "mysql"), 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	args := []string{"--no-defaults"}
	args = append(args, b.PathArgs()...)
	args = append(args, UserArgs()...)
	// Its own temporary folder: the server deletes what others have left, or use, there.
	args = append(args, "--bootstrap", "--datadir="+data, "--tmpdir="+filepath.Dir(data),
		"--log-warnings=0", "--enforce-storage-engine=",
		"--max-allowed-packet=8M", "--net-buffer-length=16K", "--innodb-log-file-size=8M")
	argv := b.Command(args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = &sql
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialise %s: %w: %s", data, err, lastLines(out, 3))
	}
	return nil
}

// mariaShare finds the folder of the server's SQL files.
func mariaShare(b *Binary) (string, error) {
	prefix := filepath.Join(filepath.Dir(b.Path), "..")
	for _, dir := range []string{"share/mysql", "share/mariadb", "share"} {
		d := filepath.Join(prefix, dir)
		if _, err := os.Stat(filepath.Join(d, "mysql_system_tables.sql")); err == nil {
			return d, nil
		}
	}
	return "", fmt.Errorf("no mysql_system_tables.sql below %s", prefix)
}

func lastLines(out []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
