package vttablet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serve starts a tablet manager that answers what answer says, and returns its address.
func serve(t *testing.T, answer func(method string, request []byte) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		if err := answer(method, request); err != nil {
			return err
		}
		return stream.SendMsg(&[]byte{})
	}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestCalls(t *testing.T) {
	var got []string
	addr := serve(t, func(method string, request []byte) error {
		got = append(got, fmt.Sprintf("%s %q", method, request))
		return nil
	})
	if err := errors.Join(ReloadSchema(t.Context(), addr), ResetSequences(t.Context(), addr, []string{"a_seq", "b"})); err != nil {
		t.Fatal(err)
	}
	// Field 1, of length 5 and 1, as protoc's tabletmanagerdata.ResetSequencesRequest{Tables: …} is encoded.
	want := `/tabletmanagerservice.TabletManager/ReloadSchema ""; /tabletmanagerservice.TabletManager/ResetSequences "\n\x05a_seq\n\x01b"`
	if strings.Join(got, "; ") != want {
		t.Errorf("got %s", strings.Join(got, "; "))
	}
}

func TestErrors(t *testing.T) {
	addr := serve(t, func(string, []byte) error { return status.Error(codes.NotFound, "table x not found in schema") })
	err := ResetSequences(t.Context(), addr, []string{"x"})
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ReloadSchema(t.Context(), closed); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ReloadSchema(ctx, addr); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
}
