package replication

import (
	"sync"
	"time"
)

const (
	// chunkTime is how long reading a chunk, and writing it, may take for chunks to stay as large as they are: changes of
	// a chunk's rows wait for it, and an error costs a chunk.
	chunkTime = time.Second
	// minChunkBytes is what chunks shrink to at most.
	minChunkBytes = 64 << 10
)

// A pace is how large a table's chunks are made. Large ones cost less per row; they grow while they are quick and shrink when
// they are slow, within bounds. It has nothing to do with how keys lie: a chunk is cut by its bytes.
type pace struct {
	max int

	mu    sync.Mutex
	bytes int
}

func newPace(maxBytes int) *pace {
	return &pace{max: maxBytes, bytes: min(maxBytes, max(maxBytes/4, minChunkBytes))}
}

// want is the size to aim at.
func (p *pace) want() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// took takes note that a chunk of so many bytes took so long to read, or to write.
func (p *pace) took(bytes int, read, write time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := max(read, write)
	switch {
	case d > chunkTime:
		fit := int(int64(bytes) * int64(chunkTime/time.Millisecond) / int64(d/time.Millisecond))
		p.bytes = max(min(p.bytes, max(fit, p.bytes/4)), min(minChunkBytes, p.max))
	case d < chunkTime/2 && bytes >= p.bytes/2:
		p.bytes = min(2*p.bytes, p.max)
	}
}
