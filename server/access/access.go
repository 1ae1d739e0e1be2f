// Package access says who may call what: the identities of callers, in the one textual form that the policy file, the log and errors
// share, the roles, and the policy itself. It knows neither gRPC nor the service's methods; package server asks it.
package access

// Roles is a set of roles.
type Roles uint8

// The roles that a policy gives.
const (
	// Reader streams alerts and reads integrations.
	Reader Roles = 1 << iota
	// Operator registers, changes, deletes and tests integrations, and reads them.
	Operator
)

// All are all roles.
const All = Reader | Operator

// String returns the roles as a policy file names them, with " or " between.
func (r Roles) String() string {
	switch r {
	case Reader:
		return "reader"
	case Operator:
		return "operator"
	case All:
		return "reader or operator"
	default:
		return "none"
	}
}

// Grants are the roles that a caller holds, and for which integrations. The zero value holds none.
type Grants struct {
	// everywhere are the roles for every integration, there or not; of has those for single ones, by id, beside them.
	everywhere Roles
	of         map[string]Roles
}

// Everything are the grants of a caller that may do all.
func Everything() Grants { return Grants{everywhere: All} }

// Allow says whether the caller holds one of these roles for an integration. Without an id it must hold it for every one.
func (g Grants) Allow(roles Roles, integration string) bool {
	return (g.everywhere|g.of[integration])&roles != 0
}

// AllowSome says whether the caller holds one of these roles for any integration.
func (g Grants) AllowSome(roles Roles) bool {
	all := g.everywhere
	for _, held := range g.of {
		all |= held
	}
	return all&roles != 0
}
