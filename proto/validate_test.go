// Package proto_test holds the copy of protovalidate's file equal to the one that the code was generated from.
package proto_test

import (
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// What requests are checked against is generated in a Go module of its own, which can be updated without the copy: buf and every
// client that generates from this folder would then read other rules than the server applies.
func TestValidateProtoIsTheGeneratedOne(t *testing.T) {
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{})}
	files, err := compiler.Compile(t.Context(), "buf/validate/validate.proto")
	if err != nil {
		t.Fatal(err)
	}
	copied, generated := describe(t, files[0]), describe(t, validate.File_buf_validate_validate_proto)
	if len(copied.GetMessageType()) != len(generated.GetMessageType()) {
		t.Errorf("the copy has %d messages, the generated file %d", len(copied.GetMessageType()), len(generated.GetMessageType()))
	}
	for i, message := range generated.GetMessageType()[:min(len(generated.GetMessageType()), len(copied.GetMessageType()))] {
		if !proto.Equal(copied.GetMessageType()[i], message) {
			t.Errorf("the message %s differs", message.GetName())
		}
	}
	if !proto.Equal(copied, generated) {
		t.Error("proto/buf/validate/validate.proto is another version than the module buf.build/gen/go/bufbuild/protovalidate: " +
			"copy it from the module github.com/bufbuild/protovalidate of the version that go.mod has")
	}
}

// describe returns the descriptor of a file, all options decoded by what is linked in, so that two can be compared.
func describe(t *testing.T, file protoreflect.FileDescriptor) *descriptorpb.FileDescriptorProto {
	t.Helper()
	data, err := proto.Marshal(protodesc.ToFileDescriptorProto(file))
	if err != nil {
		t.Fatal(err)
	}
	descriptor := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(data, descriptor); err != nil {
		t.Fatal(err)
	}
	return descriptor
}
