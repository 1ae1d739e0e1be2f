package server

import (
	"context"
	"errors"
	"log/slog"

	"buf.build/go/protovalidate"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// technology is what TestConnectivity says that it reached for.
const technology = "Microsoft Defender for Endpoint"

// Records is what the service needs of the store.
type Records interface {
	store.Registry
	store.Tests
	// DeleteJournal deletes the journal that uid names. It is no error if there is none.
	DeleteJournal(ctx context.Context, uid string) error
}

// Sealer seals secrets before they are stored.
type Sealer interface {
	// Seal seals the secrets of the registration that uid names.
	Seal(secrets *storev1.Secrets, uid string) ([]byte, error)
	// Open opens what Seal made, for the same uid only.
	Open(sealed []byte, uid string) (*storev1.Secrets, error)
}

// TestFunc tries every link of completed settings really, and returns what that came to.
type TestFunc func(
	ctx context.Context, integration *integrationv1.Integration, secrets *storev1.Secrets,
) *integrationv1.ConnectivityTest

// CheckFunc says whether a connection can be made of completed settings, and calls nothing. An error is a *defender.Error.
type CheckFunc func(integration *integrationv1.Integration, secrets *storev1.Secrets) error

// Collectors tells how the integrations do.
type Collectors interface {
	// Status returns the status of the integration whose journal uid names, nil where its collector has not begun.
	Status(uid string) *integrationv1.IntegrationStatus
}

// Streams sends the alerts.
type Streams interface {
	// Stream sends the events of one stream until it ends, in order and from one goroutine. It returns nil at the end of a bounded
	// stream, a *failure.Error where the caller is to learn why it ends, and ctx's error when ctx ends.
	Stream(ctx context.Context, request *integrationv1.StreamAlertsRequest, send func(*integrationv1.StreamAlertsResponse) error) error
}

// ServiceOptions are what a Service is made of. All but Version and Configured are required.
type ServiceOptions struct {
	Rules
	Records    Records
	Sealer     Sealer
	Collectors Collectors
	Streams    Streams
	Logger     *slog.Logger
	// Test tries the links of an integration.
	Test TestFunc
	// Configured says that integrations are given as configuration: what is managed by it cannot be changed over the API. Where it is not
	// set, a change over the API takes over what a configuration managed before.
	Configured bool
	// Version is this service's version, which TestConnectivity tells.
	Version string
}

// Service answers the calls of IntegrationService. It is safe for concurrent use.
type Service struct {
	integrationv1.UnimplementedIntegrationServiceServer
	ServiceOptions
	validator protovalidate.Validator
}

// NewService makes a Service.
func NewService(options ServiceOptions) (*Service, error) {
	if options.Records == nil || options.Sealer == nil || options.Collectors == nil || options.Streams == nil ||
		options.Logger == nil || options.Test == nil || options.Check == nil || options.CheckFile == nil || options.CheckVariable == nil {
		return nil, errors.New("the service needs records, a sealer, collectors, streams, a logger, a test of connectivity and checks")
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, err
	}
	return &Service{ServiceOptions: options, validator: validator}, nil
}

// record returns the record of an integration, or the failure that there is none.
func (s *Service) record(ctx context.Context, id string) (store.Versioned, error) {
	// An id that none can have is not looked up: a store need not cope with any text as a key.
	if !integrationIDForm.MatchString(id) {
		return store.Versioned{}, failure.IntegrationNotFound(id)
	}
	record, revision, err := s.Records.Record(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return store.Versioned{}, failure.IntegrationNotFound(id)
	}
	return store.Versioned{Record: record, Revision: revision}, err
}
