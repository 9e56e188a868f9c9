package vttablet

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// ReloadSchema makes the vttablet at a gRPC address read which tables there are. It returns when that is done.
func ReloadSchema(ctx context.Context, addr string) error {
	return call(ctx, addr, "ReloadSchema", nil)
}

// ResetSequences makes the vttablet at a gRPC address forget the ids of these sequences that it holds in memory: the next one is taken from the
// table. A sequence that it does not know is an error; see ReloadSchema.
func ResetSequences(ctx context.Context, addr string, tables []string) error {
	var request []byte
	for _, name := range tables {
		request = protowire.AppendTag(request, 1, protowire.BytesType)
		request = protowire.AppendString(request, name)
	}
	return call(ctx, addr, "ResetSequences", request)
}

// service is the tablet manager's.
const service = "/tabletmanagerservice.TabletManager/"

// call makes one call, on a connection of its own. The response says nothing.
func call(ctx context.Context, addr, method string, request []byte) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("vttablet %s: %w", addr, err)
	}
	defer conn.Close()
	var response []byte
	if err := conn.Invoke(ctx, service+method, &request, &response, grpc.ForceCodec(bytesCodec{})); err != nil {
		return fmt.Errorf("vttablet %s: %s: %w", addr, method, err)
	}
	return nil
}

// bytesCodec sends and receives *[]byte as they are.
type bytesCodec struct{}

// Marshal returns the bytes.
func (bytesCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("message of type %T", v)
	}
	return *b, nil
}

// Unmarshal keeps the bytes.
func (bytesCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("message of type %T", v)
	}
	*b = append((*b)[:0], data...)
	return nil
}

// Name is the content's type, which is part of the request.
func (bytesCodec) Name() string { return "proto" }
