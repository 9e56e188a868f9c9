// Package test holds the integration tests: real MySQL, MariaDB and etcd servers, the
// whole library, and a check that no goroutine is left. It is a module of its own, so
// that what only these tests need stays out of an embedding program's go.sum.
//
//	cd test && go test -race ./...
package test
