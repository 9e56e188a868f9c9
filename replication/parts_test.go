package replication

// The model's chunks are read in parts.
func init() { readBytes = 1 }
