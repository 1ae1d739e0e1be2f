package entra

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"defender-integration/defender/secretsdir"
)

// secret is a client secret, given or in a file
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow#first-case-access-token-request-with-a-shared-secret).
type secret struct {
	endpoint, clientID string
	// scope is for a v2.0 token endpoint, resource for a v1 one; one of them is set.
	scope, resource string
	// value is the secret where no file is named.
	value, file string
	files       *secretsdir.Dir
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
	if s.file == "" {
		return s.value, nil
	}
	content, err := s.files.Read(s.file)
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(content))
	if value == "" {
		return "", unusable(fmt.Sprintf("The file %q holds no client secret: it has white space alone.", s.file),
			"Write the secret's Value into it. It is read again each time; no restart is needed.")
	}
	return value, nil
}

func (s *secret) inspect() (Inspection, error) {
	found := Inspection{Kind: "a client secret", File: s.file}
	_, err := s.read()
	return found, err
}
