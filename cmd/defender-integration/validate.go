package main

import (
	"context"
	"fmt"

	"defender-integration/cmd/defender-integration/internal/app"
)

func validateCommand() command {
	return command{
		name:    "validate",
		summary: "check the files of --integrations",
		about: "validate checks the files that serve is given with --integrations, as serve would with these flags, and ends with status 1 where one\n" +
			"of them is not valid: with file, line and field. Nothing is called and nothing is stored; no folder for secrets and no variable has to\n" +
			"be there, and no secret is read.",
		setup: func(flags *flagSet) func(context.Context, streams) error {
			f := &serveFlags{}
			f.configuring(flags)
			f.reaching(flags)
			return f.validate
		},
	}
}

// validate prints what would be applied, or what is wrong.
func (f *serveFlags) validate(_ context.Context, s streams) error {
	if f.integrations == "" {
		return usagef("--integrations is needed: the folder or file to check")
	}
	documents, problems, err := app.Validate(app.Options{
		Integrations: f.integrations, AllowEndpoints: f.allow, AllowHTTP: f.allowHTTP, SecretsDir: f.secretsDir, SecretVariables: f.secretEnv,
		ProxyRules: f.proxies, TrustedCAFile: f.trustedCA, Version: version(),
	})
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(s.out, p)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s: %d problems; nothing of it would be deleted, and what came from those files before would stay", f.integrations, len(problems))
	}
	for _, d := range documents {
		fmt.Fprintf(s.out, "%s:%d: integration %s of tenant %s\n", d.File, d.Line, d.Integration.GetIntegrationId(), d.Integration.GetTenantId())
	}
	fmt.Fprintf(s.out, "valid: %d integrations\n", len(documents))
	return nil
}
