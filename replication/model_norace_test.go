//go:build !race

package replication_test

// modelDefault is how many schedules TestModel runs.
const modelDefault = 4000
