package replication

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const most = 4 << 20
	p := newPace(most)
	if got := p.want(); got != 1<<20 {
		t.Errorf("begins at %d", got)
	}
	quick, slow := 10*time.Millisecond, 8*time.Second
	for range 10 {
		p.took(p.want(), quick, quick)
	}
	if got := p.want(); got != most {
		t.Errorf("quick chunks grow to %d", got)
	}
	p.took(1000, quick, quick)
	p.took(most, 700*time.Millisecond, quick)
	if got := p.want(); got != most {
		t.Errorf("a short chunk, or one that is neither quick nor slow, makes it %d", got)
	}
	p.took(most, quick, slow)
	if got := p.want(); got != most/4 {
		t.Errorf("one slow chunk makes it %d", got)
	}
	p.took(most/4, slow, quick)
	p.took(most/32, chunkTime*4/3, quick)
	if got, least := p.want(), most/64; got > most/32 || got < least {
		t.Errorf("slow chunks shrink to %d", got)
	}
	for range 10 {
		p.took(p.want(), time.Hour, quick)
	}
	if got := p.want(); got != minChunkBytes {
		t.Errorf("chunks shrink to %d", got)
	}
	if got := newPace(1000).want(); got != 1000 {
		t.Errorf("with small chunks wanted it begins at %d", got)
	}
}
