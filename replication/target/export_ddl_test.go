package target

// TableLock is the name of the lock of a table's definition.
func TableLock(t *Target, table string) string {
	s, err := t.loaded()
	if err != nil {
		return ""
	}
	return s.nameLock(table)
}
