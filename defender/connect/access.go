package connect

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"defender-integration/defender/entra"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// tokenStage is the stage of a token, or what kept it from being tried, and what it gave.
type tokenStage struct {
	stage  *stage
	claims entra.Claims
	err    error
}

// tokenOf asks for a token for a target; needs is what failed of the way to Entra.
func (t *test) tokenOf(target integrationv1.ConnectivityStage_Target, source *entra.Source, needs *stage) tokenStage {
	var out tokenStage
	out.stage = t.run(integrationv1.ConnectivityStage_LINK_TOKEN, target, needs, func(ctx context.Context, s *stage) {
		token, err := source.Fresh(ctx)
		if err != nil {
			fail(s, err)
			return
		}
		out.claims, out.err = entra.ReadClaims(token)
		s.Seen = "Entra gave a token."
		if out.claims.Audience != "" {
			s.Seen = "Entra gave a token for " + rest.Excerpt(out.claims.Audience) + "."
		}
	})
	if needs != nil {
		out.stage = needs
	}
	return out
}

// permissions compares a token's roles with those that are needed, any one of which will do.
func (t *test) permissions(target integrationv1.ConnectivityStage_Target, needed []*integrationv1.Permission, token tokenStage) *stage {
	return t.run(integrationv1.ConnectivityStage_LINK_PERMISSIONS, target, firstFailed(token.stage), func(_ context.Context, s *stage) {
		if token.err != nil {
			s.Result = warned
			s.Seen = "The token does not tell its roles: " + token.err.Error() + "."
			s.Remedy = "Nothing, where the next stage holds."
			return
		}
		var writing []string
		for _, p := range needed {
			if !slices.Contains(token.claims.Roles, p.GetName()) {
				continue
			}
			s.PresentRoles = append(s.PresentRoles, p.GetName())
			if p.GetCanWrite() {
				writing = append(writing, p.GetName())
			}
		}
		least := needed[0].GetName()
		switch {
		case len(s.GetPresentRoles()) == 0:
			s.Result = failed
			s.Reason = integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING
			s.MissingRoles = []string{least}
			s.Seen = fmt.Sprintf("The token has none of the roles that are needed; it has %s.", listed(token.claims.Roles))
			s.Remedy = rest.Grant(needed)
			if target == deviceTarget {
				s.Remedy += withoutDevices
			}
		case len(writing) > 0:
			s.Result = warned
			s.Seen = fmt.Sprintf("The token has %s, which can change things: more than is needed.", strings.Join(writing, ", "))
			s.Remedy = fmt.Sprintf("Grant %s, and take %s away from the application.", least, strings.Join(writing, ", "))
		default:
			s.Seen = fmt.Sprintf("The token has %s.", strings.Join(s.GetPresentRoles(), ", "))
		}
	})
}

// withoutDevices is the other way out where devices cannot be read.
const withoutDevices = " Or set device_source.kind to KIND_NONE: alerts are streamed all the same, and what raised none cannot be judged."

// listed names roles, few of them, for a sentence.
func listed(roles []string) string {
	const shown = 10
	switch {
	case len(roles) == 0:
		return "none at all"
	case len(roles) > shown:
		return rest.Excerpt(strings.Join(roles[:shown], ", ")) + fmt.Sprintf(" and %d more", len(roles)-shown)
	default:
		return rest.Excerpt(strings.Join(roles, ", "))
	}
}
