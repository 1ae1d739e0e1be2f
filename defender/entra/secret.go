package entra

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// secret is a client secret, given, in a file or in an environment variable
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow#first-case-access-token-request-with-a-shared-secret).
type secret struct {
	endless
	endpoint, clientID string
	// scope is for a v2.0 token endpoint, resource for a v1 one; one of them is set.
	scope, resource string
	kept            kept
}

// ask sends the form. The secret goes into the form and not into a header: Entra takes both, and one that is tried after the other
// doubles the requests that fail.
func (s *secret) ask(ctx context.Context, client *http.Client) error {
	value, err := s.read()
	if err != nil {
		return err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.clientID}, "client_secret": {value}}
	if s.resource != "" {
		form.Set("resource", s.resource)
	} else {
		form.Set("scope", s.scope)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return invalid("The authorization URL cannot be used.", urlRemedy)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// read returns the secret as it is now.
func (s *secret) read() (string, error) {
	content, err := s.kept.read()
	if err != nil || s.kept.where() == "" {
		return string(content), err
	}
	value := strings.TrimSpace(string(content))
	switch {
	case value != "":
		return value, nil
	case s.kept.variable != "":
		return "", unusable(fmt.Sprintf("The environment variable %q holds no client secret: it has white space alone.", s.kept.variable),
			"Have the service's operator set it to the secret's Value and start the service again.")
	default:
		return "", unusable(fmt.Sprintf("The file %q holds no client secret: it has white space alone.", s.kept.file),
			"Write the secret's Value into it. It is read again each time; no restart is needed.")
	}
}

func (s *secret) inspect() (Inspection, error) {
	found := s.kept.inspected("a client secret")
	_, err := s.read()
	return found, err
}
