//go:build race

package replication_test

// modelDefault is how many schedules TestModel runs; the race detector makes each ten times as slow.
const modelDefault = 800
