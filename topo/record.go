package topo

import (
	"bytes"
	"context"
	"errors"
)

// read decodes the value of a key.
func read[T any, P pointer[T]](ctx context.Context, c Conn, key string) (P, Version, error) {
	value, v, err := c.Get(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	m := P(new(T))
	if err := decode(value, m); err != nil {
		return nil, 0, &RecordError{Key: key, Err: err}
	}
	return m, v, nil
}

// create writes a key that must not exist.
func create(ctx context.Context, c Conn, key string, m message) error {
	_, err := c.Put(ctx, key, encode(m), Absent)
	return err
}

// update reads a record, lets fn change it and writes it back, again from the start whenever somebody else was
// quicker. What fn leaves as it is, is not written.
func update[T any, P pointer[T]](ctx context.Context, c Conn, key string, fn func(P) error) error {
	return change(ctx, c, key, fn, nil)
}

// upsert is update for a record that may be missing; fn gets an empty one then.
func upsert[T any, P pointer[T]](ctx context.Context, c Conn, key string, fn func(P) error) error {
	return change(ctx, c, key, fn, ErrNoNode)
}

func change[T any, P pointer[T]](ctx context.Context, c Conn, key string, fn func(P) error, tolerate error) error {
	for {
		value, v, err := c.Get(ctx, key)
		if err != nil && !errors.Is(err, tolerate) {
			return err
		}
		m := P(new(T))
		if err := decode(value, m); err != nil {
			return &RecordError{Key: key, Err: err}
		}
		if err := fn(m); err != nil {
			return err
		}
		b := encode(m)
		if v != Absent && bytes.Equal(b, value) {
			return nil
		}
		// Each turn means that another writer succeeded, so the loop makes progress and needs no pause.
		_, err = c.Put(ctx, key, b, v)
		if err == nil || !(errors.Is(err, ErrBadVersion) || errors.Is(err, ErrNodeExists)) {
			return err
		}
	}
}

// ignoreMissing turns ErrNoNode into nil.
func ignoreMissing(err error) error {
	if errors.Is(err, ErrNoNode) {
		return nil
	}
	return err
}

// list is Conn.List that knows an empty directory.
func list(ctx context.Context, c Conn, dir string) ([]string, error) {
	names, err := c.List(ctx, dir)
	return names, ignoreMissing(err)
}
