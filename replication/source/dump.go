package source

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// A dump is a connection on which a server sends its log, packet by packet. Only the head of a packet is held in memory; who
// reads it reads from the network.
type dump struct {
	client *client.Conn
	br     *bufio.Reader
	seq    byte
	// left is what of the packet has not been read; more says that another one continues it.
	left int
	more bool
	// head is room for the head of a packet.
	head [4]byte
	// err is the first error of the connection.
	err error
}

// dial opens a connection for the log; its reads fail when nothing comes for the timeout.
func dialDump(ctx context.Context, cfg Config, timeout time.Duration) (*dump, error) {
	cfg.Database = ""
	// A reader that has to wait for its consumer must not be thrown out.
	c, err := mysqlconn.Dial(ctx, cfg, mysqlconn.Session{Variables: map[string]string{"net_write_timeout": "3600"}})
	if err != nil {
		return nil, err
	}
	return &dump{client: c, br: bufio.NewReaderSize(patient{c.Conn.Conn, timeout}, 64<<10)}, nil
}

// patient bounds each read of a connection.
type patient struct {
	net.Conn
	timeout time.Duration
}

// Read reads what there is, waiting for the first byte.
func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(p.timeout)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// checksumCRC32 is the server's name for the only kind of checksums of events.
const checksumCRC32 = "CRC32"

// start asks for everything after a position.
func (d *dump) start(have replication.Position, heartbeat time.Duration, checksum string) error {
	set, err := gomysql.ParseMysqlGTIDSet(have.Text())
	if err != nil {
		return fmt.Errorf("position %s: %w", have, err)
	}
	if err := d.introduce(heartbeat, checksum); err != nil {
		return err
	}
	command := []byte{gomysql.COM_BINLOG_DUMP_GTID, 0, 0}
	command = binary.LittleEndian.AppendUint32(command, 1<<31|rand.Uint32())
	command = binary.LittleEndian.AppendUint32(command, 0) // no file
	command = binary.LittleEndian.AppendUint64(command, 4)
	encoded := set.Encode()
	command = binary.LittleEndian.AppendUint32(command, uint32(len(encoded)))
	return d.ask(append(command, encoded...))
}

// startFile asks for the log from the begin of a file on, up to where it ends now.
func (d *dump) startFile(name string, heartbeat time.Duration, checksum string) error {
	if err := d.introduce(heartbeat, checksum); err != nil {
		return err
	}
	const endNow = 1 // BINLOG_DUMP_NON_BLOCK
	command := []byte{gomysql.COM_BINLOG_DUMP, 4, 0, 0, 0, endNow, 0}
	command = binary.LittleEndian.AppendUint32(command, 1<<31|rand.Uint32())
	return d.ask(append(command, name...))
}

// introduce says as which replica the log is read, and how.
func (d *dump) introduce(heartbeat time.Duration, checksum string) error {
	// The server ends an older connection that has the same name.
	name := fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rand.Uint32(), rand.N(1<<16), rand.N(1<<12), rand.N(1<<12), rand.N(1<<48))
	_, err := d.client.Execute(fmt.Sprintf("SET @master_binlog_checksum = %[3]s, @source_binlog_checksum = %[3]s,"+
		" @master_heartbeat_period = %[1]d, @source_heartbeat_period = %[1]d, @slave_uuid = '%[2]s', @replica_uuid = '%[2]s'",
		heartbeat.Nanoseconds(), name, sqltext.String(checksum)))
	return err
}

// ask sends a command whose answer is the log.
func (d *dump) ask(command []byte) error {
	d.client.ResetSequence()
	d.seq = 1
	return d.client.WritePacket(append(make([]byte, 4), command...)) // the head of the packet comes in front
}

var errDumpEnded = errors.New("the server ended the log")

// next goes to the next packet, whatever is left of this one. It returns the server's error, if it sent one.
func (d *dump) next() error {
	if _, err := io.Copy(io.Discard, d); err != nil {
		return err
	}
	d.more = true
	switch kind, err := d.kind(); {
	case err != nil:
		return err
	case kind == gomysql.OK_HEADER:
		return nil
	case kind == gomysql.EOF_HEADER:
		return fmt.Errorf("%w: %w", errDumpEnded, io.EOF)
	case kind == gomysql.ERR_HEADER:
		message, err := io.ReadAll(io.LimitReader(d, 1<<16))
		if err != nil {
			return err
		}
		return serverError(append([]byte{kind}, message...))
	default:
		return fmt.Errorf("%w: first byte %d", errProtocol, kind)
	}
}

// kind reads the first byte of a packet.
func (d *dump) kind() (byte, error) {
	var b [1]byte
	if _, err := io.ReadFull(d, b[:]); err != nil {
		if errors.Is(err, io.EOF) && d.err == nil {
			err = fmt.Errorf("%w: empty", errProtocol)
		}
		return 0, err
	}
	return b[0], nil
}

// Read reads from the present packet; io.EOF is its end.
func (d *dump) Read(p []byte) (int, error) {
	for d.left == 0 {
		if d.err != nil {
			return 0, d.err
		}
		if !d.more {
			return 0, io.EOF
		}
		head := &d.head
		if _, err := io.ReadFull(d.br, head[:]); err != nil {
			return 0, d.fail(err)
		}
		if head[3] != d.seq {
			return 0, d.fail(fmt.Errorf("%w: sequence %d, want %d", errProtocol, head[3], d.seq))
		}
		d.seq++
		d.left = int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		d.more = d.left == maxPayload
	}
	n, err := d.br.Read(p[:min(len(p), d.left)])
	d.left -= n
	if err != nil {
		return n, d.fail(err)
	}
	return n, nil
}

// fail keeps an error of the connection, which is never the end of a packet.
func (d *dump) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
	return err
}
