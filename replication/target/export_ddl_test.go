package target

// TableLock is the name of the lock of a table's definition.
func TableLock(t *Target, table string) string {
	s, err := t.loaded()
	if err != nil {
		return ""
	}
	return s.tableLock(table)
}

// ForgetMaxErrorCount has new connections use the server's own max_error_count until restore is called.
func ForgetMaxErrorCount() (restore func()) {
	const name = "max_error_count"
	old := session.Variables[name]
	delete(session.Variables, name)
	return func() { session.Variables[name] = old }
}
