// Package topotest is for tests of topologies and of programs that use one.
//
// [TestConn] is the contract of [topo.Conn]: every implementation passes it. [NewServer] is a topology in memory to
// start from.
package topotest
