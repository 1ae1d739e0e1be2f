package connect

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"defender-integration/defender/entra"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// credentialSoon is when a credential's end is worth telling: an operator has to have it renewed.
const credentialSoon = 30 * 24 * time.Hour

// federatedSoon is the same for a federated token, which is renewed by itself and lives an hour or a day.
const federatedSoon = 5 * time.Minute

// credential looks at the credential, without sending it.
func (t *test) credential() *stage {
	return t.run(integrationv1.ConnectivityStage_LINK_CREDENTIAL, authTarget, nil, func(ctx context.Context, s *stage) {
		found, err := t.connection.alertTokens.Inspect(ctx)
		if err != nil {
			fail(s, err)
			return
		}
		s.Seen = "The credential is " + found.Kind + "."
		switch {
		case found.File != "":
			s.Seen = fmt.Sprintf("The credential is %s, in the file %q, which can be read.", found.Kind, rest.Excerpt(found.File))
		case found.Variable != "":
			s.Seen = fmt.Sprintf("The credential is %s, in the environment variable %q, which is set.", found.Kind, found.Variable)
		}
		for _, told := range []struct{ what, value string }{
			{"Its subject is", found.Subject}, {"its thumbprint is", found.Thumbprint},
			{"its issuer is", found.Issuer}, {"its audience is", found.Audience},
		} {
			if told.value != "" {
				s.Seen += " " + strings.ToUpper(told.what[:1]) + told.what[1:] + " " + told.value + "."
			}
		}
		soon := credentialSoon
		switch {
		case found.Expires.IsZero() && t.connection.integration.GetAuthentication().GetManagedIdentity() == nil:
			s.Seen += " When it expires cannot be known here: look in Entra, under App registrations > Certificates & secrets."
			return
		case found.Expires.IsZero():
			return
		case t.connection.integration.GetAuthentication().GetWorkloadIdentity() != nil:
			soon = federatedSoon
		}
		s.Seen += " It is good until " + found.Expires.UTC().Format(time.RFC3339) + "."
		if time.Until(found.Expires) < soon {
			s.Result, s.Reason = warned, integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE
			s.Remedy = "Renew it before then, and give the new one with UpdateIntegration or in its file: nothing has to be restarted."
			if found.Variable != "" {
				s.Remedy = "Renew it before then, and have the service's operator set the variable to the new one and start the service again."
			}
		}
	})
}

// tokenStage is the stage of a token, and what it gave.
type tokenStage struct {
	stage  *stage
	claims entra.Claims
	err    error
}

// failed returns what failed; nil where there is a token.
func (t tokenStage) failed() *stage { return firstFailed(t.stage) }

// tokenOf asks for a token for a target. needs is what failed of the way to Entra; before is the stage of another token, which is
// not told again where this one fails for the same cause.
func (t *test) tokenOf(target integrationv1.ConnectivityStage_Target, source *entra.Source, needs, before *stage) tokenStage {
	var out tokenStage
	out.stage = t.run(integrationv1.ConnectivityStage_LINK_TOKEN, target, needs, func(ctx context.Context, s *stage) {
		token, err := source.Fresh(ctx)
		switch {
		case err != nil:
			fail(s, err)
			if before.GetResult() == failed && before.GetReason() == s.GetReason() && before.GetUpstreamCode() == s.GetUpstreamCode() {
				s.Remedy, s.Reason, s.UpstreamCode, s.UpstreamRequestId = "", 0, "", ""
				skip(s, before, "It fails for the same cause")
			}
			return
		default:
			out.claims, out.err = entra.ReadClaims(token)
		}
		s.Seen = "Entra gave a token."
		if out.claims.Audience != "" {
			s.Seen = "Entra gave a token for " + rest.Excerpt(out.claims.Audience) + "."
		}
	})
	return out
}

// readsOnly says whether a role lets an application only read, by the name that Microsoft gives such roles: RESOURCE.Read.All.
func readsOnly(role string) bool {
	return strings.Contains(role+".", ".Read.")
}

// permissions compares a token's roles with those that are needed, any one of which will do.
func (t *test) permissions(target integrationv1.ConnectivityStage_Target, needed []*integrationv1.Permission, token tokenStage) *stage {
	if len(needed) == 0 {
		return t.leaveOut(integrationv1.ConnectivityStage_LINK_PERMISSIONS, target,
			"This API goes by no role of the token's. Whether the application is authorised in the portal shows when alerts are read.")
	}
	return t.run(integrationv1.ConnectivityStage_LINK_PERMISSIONS, target, token.failed(), func(_ context.Context, s *stage) {
		if token.err != nil {
			s.Result = warned
			s.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
			s.Seen = "The token does not tell its roles: " + token.err.Error() + "."
			s.Remedy = "Nothing, where the next stage holds."
			return
		}
		for _, p := range needed {
			if slices.Contains(token.claims.Roles, p.GetName()) {
				s.PresentRoles = append(s.PresentRoles, p.GetName())
			}
		}
		writing := slices.DeleteFunc(slices.Clone(token.claims.Roles), readsOnly)
		least := needed[0].GetName()
		switch {
		case len(s.GetPresentRoles()) == 0:
			s.Result = failed
			s.Reason = integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING
			s.MissingRoles = []string{least}
			s.Seen = fmt.Sprintf("The token has none of the roles that are needed; it has %s.", listed(token.claims.Roles))
			s.Remedy = t.otherScope(target) + rest.Grant(needed)
			if target == deviceTarget {
				s.Remedy += withoutDevices
			}
		case len(writing) > 0:
			s.Result = warned
			s.Reason = integrationv1.ErrorReason_ERROR_REASON_PERMISSION_EXCESSIVE
			s.Seen = fmt.Sprintf("The token has %s, which can change things: more than is needed.", listed(writing))
			s.Remedy = fmt.Sprintf("Take %s away from the application.", listed(writing))
			if !slices.ContainsFunc(s.GetPresentRoles(), readsOnly) {
				s.Remedy = fmt.Sprintf("Grant %s, and take %s away from the application.", least, listed(writing))
			}
		default:
			s.Seen = fmt.Sprintf("The token has %s.", strings.Join(s.GetPresentRoles(), ", "))
		}
	})
}

// otherScope asks for a look at the scope, or the resource, where a token was asked for by another than the API's own: it may be for
// another API, which has other roles. It is empty elsewhere, and ends in a space.
func (t *test) otherScope(target integrationv1.ConnectivityStage_Target) string {
	c := t.connection
	a := c.integration.GetAuthentication()
	field, given, usual := "authentication.scope", a.GetScope(), c.endpoint.GetScope()
	switch {
	case target == deviceTarget:
		field, given, usual = "device_source.scope", c.integration.GetDeviceSource().GetScope(), c.devices.GetScope()
	case a.GetResource() != "":
		field, given, usual = "authentication.resource", a.GetResource(), c.endpoint.GetResource()
	}
	if given == usual {
		return ""
	}
	return fmt.Sprintf("%s is %s, where %s is the default: leave it out, unless that is meant. ", field, rest.Excerpt(given), usual)
}

// withoutDevices is the other way out where devices cannot be read.
const withoutDevices = " Or set device_source.kind to KIND_NONE: alerts are streamed all the same, and what raised none cannot be judged."

// listed names roles, few of them, for a sentence.
func listed(roles []string) string {
	const shown = 10
	switch {
	case len(roles) == 0:
		return "none at all of this API's: no administrator has consented to any"
	case len(roles) > shown:
		return rest.Excerpt(strings.Join(roles[:shown], ", ")) + fmt.Sprintf(" and %d more", len(roles)-shown)
	default:
		return rest.Excerpt(strings.Join(roles, ", "))
	}
}
