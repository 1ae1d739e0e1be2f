package server

import (
	"context"
	"encoding/base64"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// defaultPageSize is how many integrations a page has where the caller does not say.
const defaultPageSize = 100

// pageTokenPrefix begins what a page token encodes: the version of its form. The id of the page's last integration follows.
const pageTokenPrefix = "1:"

// GetIntegration returns an integration.
func (s *Service) GetIntegration(
	ctx context.Context, request *integrationv1.GetIntegrationRequest,
) (*integrationv1.GetIntegrationResponse, error) {
	found, err := s.record(ctx, request.GetIntegrationId())
	if err != nil {
		return nil, err
	}
	return &integrationv1.GetIntegrationResponse{Integration: s.shown(ctx, found)}, nil
}

// ListIntegrations returns a page of integrations.
func (s *Service) ListIntegrations(
	ctx context.Context, request *integrationv1.ListIntegrationsRequest,
) (*integrationv1.ListIntegrationsResponse, error) {
	after, err := parsePageToken(request.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := int(request.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	// One more than the page has tells whether another page follows.
	records, err := s.readable(ctx, after, size+1)
	if err != nil {
		return nil, err
	}
	response := &integrationv1.ListIntegrationsResponse{}
	if len(records) > size {
		records = records[:size]
		response.NextPageToken = pageToken(records[size-1].Record.GetIntegration().GetIntegrationId())
	}
	for _, record := range records {
		response.Integrations = append(response.Integrations, s.shown(ctx, record))
	}
	return response, nil
}

// readable returns the records after an id that the caller may read, in the order of their ids: as many as there are, up to the limit.
func (s *Service) readable(ctx context.Context, after string, limit int) ([]store.Versioned, error) {
	var found []store.Versioned
	for ask := limit; ; ask = max(limit, defaultPageSize) {
		records, err := s.Records.Records(ctx, after, ask)
		if err != nil {
			return nil, err
		}
		for _, record := range records {
			after = record.Record.GetIntegration().GetIntegrationId()
			if mayRead(ctx, after) {
				found = append(found, record)
			}
		}
		if len(found) >= limit || len(records) < ask {
			return found[:min(len(found), limit)], nil
		}
	}
}

// pageToken returns the token of the page after the integration with that id.
func pageToken(id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(pageTokenPrefix + id))
}

// parsePageToken returns the id that a page begins after, empty for the first page.
func parsePageToken(token string) (after string, err error) {
	if token == "" {
		return "", nil
	}
	if text, err := base64.RawURLEncoding.DecodeString(token); err == nil {
		if id, ok := strings.CutPrefix(string(text), pageTokenPrefix); ok && integrationIDForm.MatchString(id) {
			return id, nil
		}
	}
	return "", failure.New(integrationv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID,
		"page_token: cannot be read; give back the next_page_token of the page before as it was, or begin without one")
}
