package app

import (
	"defender-integration/cmd/defender-integration/internal/configuration"
	"defender-integration/defender/secretsdir"
)

// Validate says which integrations a service with these options would have from its configuration, and what is wrong with the files. It
// needs no store and no network, and reads no secret: neither must the folder for secrets be there, nor a variable be set. It fails where
// the options do not go together, or the files cannot be read.
func Validate(options Options) ([]configuration.Document, []configuration.Problem, error) {
	connector, err := newConnector(options)
	if err != nil {
		return nil, nil, err
	}
	checkFile := secretsdir.CheckName
	if options.SecretsDir == "" {
		checkFile = (*secretsdir.Dir)(nil).Check
	}
	return configuration.Check(options.Integrations, connector.rules(checkFile))
}
