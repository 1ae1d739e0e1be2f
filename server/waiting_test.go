package server_test

import (
	"errors"
	"reflect"
	"testing"

	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/server/failure"
)

// Whatever the contract has, a server without a store tells that of it.
func TestWaitingAnswersEveryMethod(t *testing.T) {
	waiting := reflect.ValueOf(server.Waiting{})
	call := func(name string, in ...reflect.Value) {
		results := waiting.MethodByName(name).Call(in)
		err, _ := reflect.TypeAssert[error](results[len(results)-1])
		failed, ok := errors.AsType[*failure.Error](err)
		if !ok || failed.Reason != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE {
			t.Errorf("%s: %v", name, err)
		}
	}
	contract := integrationv1.IntegrationService_ServiceDesc
	for _, m := range contract.Methods {
		request := waiting.MethodByName(m.MethodName).Type().In(1)
		call(m.MethodName, reflect.ValueOf(t.Context()), reflect.Zero(request))
	}
	for _, s := range contract.Streams {
		call(s.StreamName, reflect.Zero(reflect.TypeFor[*integrationv1.StreamAlertsRequest]()),
			reflect.Zero(reflect.TypeFor[grpc.ServerStreamingServer[integrationv1.StreamAlertsResponse]]()))
	}
}
