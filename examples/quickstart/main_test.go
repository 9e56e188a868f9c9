package main

import "testing"

// TestQuickstart runs the demo as a user does: an error is a demo that ends with status 1.
func TestQuickstart(t *testing.T) {
	if testing.Short() {
		t.Skip("needs servers")
	}
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
