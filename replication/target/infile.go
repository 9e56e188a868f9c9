package target

import (
	"fmt"

	"github.com/tablehaul/tablehaul/replication"
)

const (
	// infileName is what LOAD DATA statements name. There is no such file: rows come from memory.
	infileName = "tablehaul:chunk"
	// packetHead is the room for a packet's header, infilePacket the size of the packets that rows are sent in.
	packetHead   = 4
	infilePacket = 64 << 10
)

// An infile is what the server is sent instead of the file that a LOAD DATA LOCAL INFILE statement names.
type infile struct {
	loader *loader
	rows   []replication.Row
	// sent is set when the server has asked for it, which it may do once.
	sent bool
	// answer is the server's error, if it refused the batch.
	answer error
}

// sendInfile answers a server that asks for a file. All that it can ever get is the rows of the batch that is under
// way, and only by the name that the batch gave them.
func (c *conn) sendInfile(name string) error {
	f := c.infile
	if f == nil || f.sent || name != infileName {
		return fmt.Errorf("%w: it asks for the file %.100q", errProtocol, name)
	}
	f.sent = true
	var space [64][]byte
	values := space[:0]
	buf := append(c.data[:0], make([]byte, packetHead)...)
	var err error
	for _, r := range f.rows {
		if values, err = f.loader.plan.values(values, r); err != nil {
			return err
		}
		buf = f.loader.appendRow(buf, values)
		if len(buf) >= infilePacket {
			if buf, err = c.sendPackets(buf, infilePacket); err != nil {
				return err
			}
		}
	}
	if buf, err = c.sendPackets(buf, packetHead+1); err != nil {
		return err
	}
	if c.data = buf; cap(buf) > 4*infilePacket {
		c.data = nil
	}
	return c.c.WritePacket(buf) // an empty packet ends the file
}

// sendPackets sends what is in buf, after the room for a header, until less than least bytes are left (with that
// room), which it returns.
func (c *conn) sendPackets(buf []byte, least int) ([]byte, error) {
	rest := buf
	for len(rest) >= least {
		n := min(len(rest), infilePacket)
		if err := c.c.WritePacket(rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n-packetHead:] // the next header is written over what has been sent
	}
	return append(buf[:packetHead], rest[packetHead:]...), nil
}
