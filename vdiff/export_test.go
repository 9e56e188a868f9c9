package vdiff

// LagTime is the wait from which on a target counts as having been behind.
const LagTime = lagTime
