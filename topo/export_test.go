package topo

// Message is any record, for tests of the codec.
type Message = message

// Encode and Decode are the codec.
var (
	Encode = encode
	Decode = decode
)
