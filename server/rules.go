package server

import (
	"errors"

	"buf.build/go/protovalidate"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// Rules say which settings an integration may have here, whether they come over the API or from the service's configuration. They call
// nothing and store nothing. All but Allowed are required.
type Rules struct {
	// Check says whether the settings of an integration go together.
	Check CheckFunc
	// CheckFile says whether a name can be one of a file in the folder for secrets.
	CheckFile func(name string) error
	// CheckVariable says whether an environment variable is one that the operator listed for secrets.
	CheckVariable func(name string) error
	// Allowed says which hosts an integration may name.
	Allowed defender.AllowList
}

// CheckIntegration returns a *failure.Error where an integration could not be registered, whatever is registered already. The paths of its
// fields begin with `integration`.
func (r Rules) CheckIntegration(integration *integrationv1.Integration) error {
	_, _, err := r.completed(integration)
	return err
}

// completed returns the settings of a whole integration with the defaults filled in, and its secrets, or a *failure.Error.
func (r Rules) completed(given *integrationv1.Integration) (*integrationv1.Integration, *storev1.Secrets, error) {
	err := protovalidate.Validate(&integrationv1.RegisterIntegrationRequest{Integration: given})
	if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return nil, nil, invalidRequest(invalid)
	}
	if err != nil {
		return nil, nil, err
	}
	return r.checked(given)
}

// checked is completed for an integration that is known to follow the rules in the proto files.
func (r Rules) checked(given *integrationv1.Integration) (*integrationv1.Integration, *storev1.Secrets, error) {
	if given.GetIntegrationId() == "" {
		return nil, nil, failure.Invalid("integration.integration_id",
			"must be given: 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit")
	}
	secrets := secretsOf(given)
	settings, err := r.complete(settingsOf(given))
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(needSecrets(settings, secrets), r.check(settings, secrets)); err != nil {
		return nil, nil, err
	}
	return settings, secrets, nil
}

// check returns a failure where no connection can be made of settings, whatever is at the other end.
func (r Rules) check(settings *integrationv1.Integration, secrets *storev1.Secrets) error {
	err := r.Check(settings, secrets)
	if wrong, ok := errors.AsType[*defender.Error](err); ok {
		return failure.Invalid("integration", "%s %s", wrong.Problem.GetMessage(), wrong.Problem.GetRemedy())
	}
	return err
}

// complete returns settings with the defaults filled in, and a failure where they do not go together or are not allowed.
func (r Rules) complete(settings *integrationv1.Integration) (*integrationv1.Integration, error) {
	if err := checkPolling(settings); err != nil {
		return nil, err
	}
	if retired := defender.Retired(settings.GetApi()); retired != nil {
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_API_RETIRED, "integration.api: %s", retired.GetNote()).
			With("api", settings.GetApi().String()).With("successor", retired.GetSuccessor().String())
	}
	completed := defender.Complete(settings)
	found := defender.Find(completed.GetApi(), completed.GetCloud())
	if found == nil {
		return nil, failure.Invalid("integration.cloud", "Microsoft does not offer %s in %s; ListEndpoints shows what it offers",
			completed.GetApi(), completed.GetCloud())
	}
	source := completed.GetDeviceSource()
	if defender.DeviceSourceOf(found, source.GetKind()) == nil {
		return nil, failure.Invalid("integration.device_source.kind", "%s does not go with %s; ListEndpoints shows what does",
			source.GetKind(), completed.GetApi())
	}
	if source.GetKind() == integrationv1.DeviceSource_KIND_NONE {
		// Nothing is looked up, so there is no place where.
		source.Endpoint, source.Scope = nil, ""
	}
	if err := errors.Join(r.checkReferences(completed), checkTrust(completed)); err != nil {
		return nil, err
	}
	err := r.Allowed.Check(completed)
	if refused := (*defender.NotAllowedError)(nil); errors.As(err, &refused) {
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED,
			"%s: this service does not allow %s; %s", refused.Field, refused.Endpoint, refused.Remedy).
			With("field", refused.Field).With("endpoint", refused.Endpoint)
	}
	return completed, err
}

func checkPolling(settings *integrationv1.Integration) error {
	fast, slow := settings.GetPolling().GetFastInterval(), settings.GetPolling().GetSlowInterval()
	if fast != nil && slow != nil && fast.AsDuration() > slow.AsDuration() {
		return failure.Invalid("integration.polling.fast_interval", "must not be longer than slow_interval")
	}
	return nil
}

// checkReferences returns a failure where a file is named that cannot be one of the folder for secrets, or an environment variable that
// the operator did not list. Whether it is there is told when it is used.
func (r Rules) checkReferences(settings *integrationv1.Integration) error {
	for _, named := range references(settings) {
		if named.name == "" {
			continue
		}
		check := r.CheckFile
		if named.variable {
			check = r.CheckVariable
		}
		if err := check(named.name); err != nil {
			return failure.Invalid("integration."+named.field, "%s", err)
		}
	}
	return nil
}

// checkTrust returns a failure where a caller adds an authority to a credential that is not the caller's own, but in a file, an environment
// variable, or the service's identity: who adds one could read what is sent.
func checkTrust(settings *integrationv1.Integration) error {
	if settings.GetTrust().GetCaPem() == "" {
		return nil
	}
	if proxy := settings.GetProxy(); proxy.GetPasswordFile() != "" || proxy.GetPasswordEnvVariable() != "" {
		return failure.Invalid("integration.trust.ca_pem",
			"cannot go with proxy.password_file or proxy.password_env_variable, which are not the caller's own; put the authority into a file "+
				"and name it in ca_file")
	}
	for _, kind := range secretKinds() {
		if kind.credential != "" && kind.use(settings) != "" {
			return nil
		}
	}
	return failure.Invalid("integration.trust.ca_pem",
		"cannot go with a credential that the request does not bring (a file, an environment variable, or the service's own identity); put the authority into a file and name it in ca_file")
}
