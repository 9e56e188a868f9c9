// Package memorytopo keeps a topology in the memory of one process: for tests, examples, and programs that move
// tables without a topology server.
//
//	mem := memorytopo.New()
//	ts, err := topo.Open(ctx, topo.Openers{"memory": mem.Open}, topo.Address{Type: "memory", Root: "/global"})
//
// The [Memory] is the machine: each server address that is opened on it names one store, and stores live as long
// as the Memory does. Locks work between connections of the same Memory.
package memorytopo
