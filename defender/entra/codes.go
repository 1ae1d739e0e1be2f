package entra

import (
	"strconv"
	"strings"
)

// cause is what an AADSTS code means, in words that complete "Entra gave no token: ...", and what to do.
type cause struct {
	meaning, remedy string
	// transient says that it passes by itself.
	transient bool
}

// codeLoop is Entra's complaint about those who ask again and again.
const codeLoop = 50196

// lookUp returns the first code that Entra names and, where it is known, its cause.
func lookUp(said refusalBody) (found cause, code int, ok bool) {
	codes := said.Codes
	if len(codes) == 0 {
		if rest, has := strings.CutPrefix(said.Description, "AADSTS"); has {
			digits, _, _ := strings.Cut(rest, ":")
			if number, err := strconv.Atoi(digits); err == nil {
				codes = []int{number}
			}
		}
	}
	if len(codes) == 0 {
		return cause{}, 0, false
	}
	for _, group := range causes() {
		for _, number := range group.codes {
			if number == codes[0] {
				return group.cause, number, true
			}
		}
	}
	return cause{}, codes[0], false
}

type causeOfCodes struct {
	codes []int
	cause
}

// causes is the table of codes: https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes, but for
// 1002012, 900023 and 7000216, which are seen in public reports.
func causes() []causeOfCodes {
	const credentials = "In Entra, under App registrations > Certificates & secrets, "
	return []causeOfCodes{
		{[]int{7000215, 70002}, cause{
			meaning: "the client secret is wrong",
			remedy:  "Give the secret's Value, not its Secret ID. " + credentials + "make a new secret if the value is lost, then update the integration with it.",
		}},
		{[]int{7000222}, cause{
			meaning: "the client secret has expired",
			remedy:  credentials + "make a new secret, then update the integration with its Value.",
		}},
		{[]int{7000216, 7000218}, cause{
			meaning: "no client secret was sent",
			remedy:  "Update the integration with the client secret's Value.",
		}},
		{[]int{700025}, cause{
			meaning: "the application is registered as a public client, which has no secret",
			remedy:  "Register a confidential application, or turn off \"Allow public client flows\".",
		}},
		{[]int{700016, 70001, 700011}, cause{
			meaning: "the tenant does not know the application",
			remedy:  "Check the application (client) id and the tenant id. An application of another tenant needs admin consent in this one.",
		}},
		{[]int{7000112}, cause{
			meaning: "the application is disabled in the tenant",
			remedy:  "In Entra, under Enterprise applications, open the application and enable it for sign-in.",
		}},
		{[]int{90002}, cause{
			meaning: "there is no such tenant in this cloud",
			remedy:  "Check the tenant id, and that the integration's cloud is the tenant's.",
		}},
		{[]int{900023}, cause{
			meaning: "the tenant id is neither a GUID nor a domain",
			remedy:  "Give the tenant's GUID, or one of its verified domains.",
		}},
		{[]int{90038, 900382, 900432}, cause{
			meaning: "the tenant is in another national cloud",
			remedy:  "Register the integration with the tenant's cloud.",
		}},
		{[]int{9001023, 50194}, cause{
			meaning: "the authorization URL names no tenant",
			remedy:  "Put the tenant's GUID where `common` or `organizations` stands in the authorization URL.",
		}},
		{[]int{500011, 50001, 650054}, cause{
			meaning: "the resource that the scope names is not known in the tenant",
			remedy:  "Check the scope and the tenant. If both are right, the tenant has no Defender, or it was never set up: open security.microsoft.com once as an administrator.",
		}},
		{[]int{650052}, cause{
			meaning: "the tenant has no subscription to the service that the scope names",
			remedy:  "Check the tenant's Defender licence, and that Defender was set up.",
		}},
		{[]int{650057, 65001, 90094}, cause{
			meaning: "an administrator has not consented to the application's permissions",
			remedy:  "In Entra, under App registrations > API permissions, add the application permissions and grant admin consent.",
		}},
		{[]int{53003, 530032, 53001, 53002, 50131}, cause{
			meaning: "a Conditional Access policy blocks the application",
			remedy:  "Have an Entra administrator look at the policies for workload identities, and allow this service's address.",
		}},
		{[]int{50034}, cause{
			meaning: "it looked for a user, where an application was meant",
			remedy:  "Check that the authorization URL ends in /oauth2/v2.0/token and that the tenant is right.",
		}},
		{[]int{1002012, 70011, 28002, 28003, 700022, 700023}, cause{
			meaning: "the scope is not one that an application can ask for",
			remedy:  "Give the scope as the API's root and /.default, such as https://graph.microsoft.com/.default, or leave it out for the default.",
		}},
		{[]int{901002}, cause{
			meaning: "the authorization URL is not of the v2.0 endpoint",
			remedy:  "Give the authorization URL with /oauth2/v2.0/token at its end.",
		}},
		{[]int{900144, 90014}, cause{
			meaning: "a part of the request is missing",
			remedy:  "Check that application id, secret and scope are all set.",
		}},
		{[]int{50033, 90006, 90012, 90024, 90033, 90055}, cause{transient: true}},
	}
}
