package rule

import "sync"

// answerBytes bounds the memory of a filter's answers, of which the older half is forgotten when it is full.
const answerBytes = 4 << 20

// answers are what the server has said about texts.
type answers struct {
	mu        sync.Mutex
	young     map[string]int8
	old       map[string]int8
	youngSize int
}

func (a *answers) get(key string) (int8, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v, ok := a.young[key]; ok {
		return v, true
	}
	v, ok := a.old[key]
	if ok {
		a.add(key, v)
	}
	return v, ok
}

func (a *answers) put(key string, v int8) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(key, v)
}

// add needs the lock.
func (a *answers) add(key string, v int8) {
	const overhead = 64
	if len(key)+overhead > answerBytes/8 {
		return
	}
	if a.young == nil || a.youngSize+len(key)+overhead > answerBytes/2 {
		a.old, a.young, a.youngSize = a.young, map[string]int8{}, 0
	}
	if _, ok := a.young[key]; !ok {
		a.youngSize += len(key) + overhead
	}
	a.young[key] = v
}
