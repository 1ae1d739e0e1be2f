// Package client is what a Director written in Go imports: a stream of alerts that reconnects and resumes by itself.
//
//	conn, err := grpc.NewClient("unix:///run/defender-integration/service.sock",
//		grpc.WithTransportCredentials(insecure.NewCredentials()),
//		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
//	…
//	stream := client.New(conn).Alerts(&integrationv1.StreamAlertsRequest{…, ResumeToken: stored})
//	for event, err := range stream.Events(ctx) {
//		if err != nil {
//			return err
//		}
//		// Keep what the event says and event.GetResumeToken(), in one transaction, then:
//		event.Ack()
//	}
//
// # Exactly once
//
// After a reconnection the stream resumes after the event that was acknowledged last, so events that were handed over and not
// acknowledged come again. A Director that keeps token and event together, acknowledges afterwards, and gives the kept token as
// the request's resume_token when it starts again, has each event exactly once. `actors` and `progress` tell the present and may
// come again at any time.
//
// # The connection
//
// The connection is the caller's: one serves many streams. Ask for keepalive, or a server that vanished without a word is noticed
// only by the operating system, which can take hours; the server refuses pings more often than every 10 seconds, and 30 seconds
// are plenty. Where nobody listens, gRPC tries to connect less and less often, at last every two minutes, whatever this package
// does: set grpc.WithConnectParams for less. Where there are more streams than the server allows on one connection, further ones
// wait without a word: spread them over several connections. Do not configure a retry policy of gRPC for StreamAlerts: this
// package retries.
package client

import (
	"log/slog"
	"time"

	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Client reaches the service over a connection. It is safe for concurrent use.
type Client struct {
	service integrationv1.IntegrationServiceClient
	waits   waits
	log     *slog.Logger
}

// Option changes how a Client works.
type Option func(*Client)

// WithWaits sets how long to wait before reconnecting where the server does not say: at first about `first`, doubled with each
// attempt that brought no event, never more than `longest`, each shortened at random by up to a half. The default is a second and
// 30 seconds. Shorter than 10 milliseconds is taken for 10 milliseconds.
func WithWaits(first, longest time.Duration) Option {
	return func(c *Client) {
		c.waits = waits{first: max(first, shortestWait), longest: max(first, longest, shortestWait)}
	}
}

// WithLogger sets where reconnections are logged, at level INFO. The default is nowhere.
func WithLogger(log *slog.Logger) Option {
	return func(c *Client) { c.log = log }
}

// New returns a Client over the connection, which stays the caller's to close.
func New(conn grpc.ClientConnInterface, options ...Option) *Client {
	c := &Client{
		service: integrationv1.NewIntegrationServiceClient(conn),
		waits:   waits{first: time.Second, longest: 30 * time.Second},
		log:     slog.New(slog.DiscardHandler),
	}
	for _, option := range options {
		option(c)
	}
	return c
}

// Service returns the generated client of the same connection, for the other calls. [Reason] reads their errors.
func (c *Client) Service() integrationv1.IntegrationServiceClient { return c.service }
