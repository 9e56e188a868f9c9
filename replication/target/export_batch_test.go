package target

// Collapse is what merged transactions are turned into.
var Collapse = collapse
