package entra

import (
	"slices"
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

// codeGeneral says "Error validating credentials", and comes with others that say more.
const codeGeneral = 70002

// maxCodes bounds how many codes of an answer are looked at. Entra sends one or two.
const maxCodes = 8

// lookUp returns the code that says most of those that Entra names, and, where it is known, its cause.
func lookUp(said refusalBody) (found cause, code int, ok bool) {
	codes := said.Codes[:min(len(said.Codes), maxCodes)]
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
	for _, number := range codes {
		if cause, known := causeOf(number, said.Error); known && (!ok || code == codeGeneral) {
			found, code, ok = cause, number, true
		}
	}
	if !ok {
		code = codes[0]
	}
	return found, code, ok
}

// causeOf returns the cause of a code that came with a standard `error`.
func causeOf(code int, standard string) (cause, bool) {
	for _, group := range causes() {
		if (group.standard == "" || group.standard == standard) && slices.Contains(group.codes, code) {
			return group.cause, true
		}
	}
	return cause{}, false
}

// causeOfCodes is a cause and the codes that mean it.
type causeOfCodes struct {
	codes []int
	cause
	// standard is the `error` that they mean it with, where the same code means something else with others.
	standard string
}

// causes is the table of codes: https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes, but for those that are
// seen in public reports alone: 1002012, 900023 and 7000216; of certificates 700021, 700023 with invalid_client (as in
// https://github.com/AzureAD/microsoft-authentication-library-for-dotnet/issues/2746) and 700024 (…/issues/4951); of federated
// tokens 70021 (https://github.com/Azure/azure-workload-identity/issues/340), 700211 to 700213, 7002131, 7002137 and 7002138
// (https://github.com/Azure/login/issues/517).
func causes() []causeOfCodes {
	const (
		credentials = "In Entra, under App registrations > Certificates & secrets, "
		federation  = credentials + "under Federated credentials, compare issuer, subject and audience (api://AzureADTokenExchange) with what the connectivity test shows of the token; upper and lower case count. A new one takes some minutes to work."
	)
	return []causeOfCodes{
		{codes: []int{7000215, codeGeneral}, cause: cause{
			meaning: "the client secret is wrong",
			remedy:  "Give the secret's Value, not its Secret ID. " + credentials + "make a new secret if the value is lost, then update the integration with it.",
		}},
		{codes: []int{7000222}, cause: cause{
			meaning: "the client secret has expired",
			remedy:  credentials + "make a new secret, then update the integration with its Value.",
		}},
		{codes: []int{7000216, 7000218}, cause: cause{
			meaning: "no client secret was sent",
			remedy:  "Update the integration with the client secret's Value.",
		}},
		{codes: []int{700027}, cause: cause{
			meaning: "the certificate is not one of the application's, or what it signed does not verify",
			remedy:  credentials + "upload the certificate (without its private key), and compare its thumbprint with the one that the connectivity test shows.",
		}},
		{codes: []int{700030, 50012}, cause: cause{
			meaning: "the certificate's subject or chain is not accepted",
			remedy:  credentials + "upload the certificate itself, and check that it has neither expired nor been revoked.",
		}},
		{codes: []int{700024}, cause: cause{
			meaning: "the assertion is not within its time: it was made too early or has expired",
			remedy:  "Check this machine's clock. For workload identity, also what renews the token's file.",
		}},
		{codes: []int{700021}, cause: cause{
			meaning: "the assertion is of another application",
			remedy:  "Check the application (client) id.",
		}},
		{codes: []int{700023}, standard: "invalid_client", cause: cause{
			meaning: "the assertion is for another tenant or cloud",
			remedy:  "Check that the authorization URL has the tenant's own id and the host of its cloud.",
		}},
		{codes: []int{50013, 50027}, cause: cause{
			meaning: "the assertion cannot be read or does not verify",
			remedy:  "Check that the certificate, or the file with the federated token, is the right one and whole.",
		}},
		{codes: []int{700211}, cause: cause{
			meaning: "none of the application's federated credentials has the federated token's issuer",
			remedy:  federation,
		}},
		{codes: []int{700212}, cause: cause{
			meaning: "none of the application's federated credentials has the federated token's audience",
			remedy:  federation,
		}},
		{codes: []int{700213, 7002137, 7002138}, cause: cause{
			meaning: "none of the application's federated credentials has the federated token's subject",
			remedy:  federation,
		}},
		{codes: []int{70021, 7002131}, cause: cause{
			meaning: "none of the application's federated credentials fits the federated token",
			remedy:  federation,
		}},
		{codes: []int{700229}, cause: cause{
			meaning: "the federated token is of an Entra user, where one of an application is needed",
			remedy:  "Write the token of a managed identity or an application into the file, not that of a person.",
		}},
		{codes: []int{700025}, cause: cause{
			meaning: "the application is registered as a public client, which has no credential",
			remedy:  "Register a confidential application, or turn off \"Allow public client flows\".",
		}},
		{codes: []int{700016, 70001, 700011}, cause: cause{
			meaning: "the tenant does not know the application",
			remedy:  "Check the application (client) id and the tenant id. An application of another tenant needs admin consent in this one.",
		}},
		{codes: []int{7000112}, cause: cause{
			meaning: "the application is disabled in the tenant",
			remedy:  "In Entra, under Enterprise applications, open the application and enable it for sign-in.",
		}},
		{codes: []int{90002}, cause: cause{
			meaning: "there is no such tenant in this cloud",
			remedy:  "Check the tenant id, and that the integration's cloud is the tenant's.",
		}},
		{codes: []int{900023}, cause: cause{
			meaning: "the tenant id is neither a GUID nor a domain",
			remedy:  "Give the tenant's GUID, or one of its verified domains.",
		}},
		{codes: []int{90038, 900382, 900432}, cause: cause{
			meaning: "the tenant is in another national cloud",
			remedy:  "Register the integration with the tenant's cloud.",
		}},
		{codes: []int{9001023, 50194}, cause: cause{
			meaning: "the authorization URL names no tenant",
			remedy:  "Put the tenant's GUID where `common` or `organizations` stands in the authorization URL.",
		}},
		{codes: []int{500011, 50001, 650054}, cause: cause{
			meaning: "the resource that the scope names is not known in the tenant",
			remedy:  "Check the scope and the tenant. If both are right, the tenant has no Defender, or it was never set up: open security.microsoft.com once as an administrator.",
		}},
		{codes: []int{650052}, cause: cause{
			meaning: "the tenant has no subscription to the service that the scope names",
			remedy:  "Check the tenant's Defender licence, and that Defender was set up.",
		}},
		{codes: []int{650057, 65001, 90094}, cause: cause{
			meaning: "an administrator has not consented to the application's permissions",
			remedy:  "In Entra, under App registrations > API permissions, add the application permissions and grant admin consent.",
		}},
		{codes: []int{53003, 530032, 53001, 53002, 50131}, cause: cause{
			meaning: "a Conditional Access policy blocks the application",
			remedy:  "Have an Entra administrator look at the policies for workload identities, and allow this service's address.",
		}},
		{codes: []int{50034}, cause: cause{
			meaning: "it looked for a user, where an application was meant",
			remedy:  "Check that the authorization URL ends in /oauth2/v2.0/token or /oauth2/token and that the tenant is right.",
		}},
		{codes: []int{1002012, 70011, 28002, 28003, 700022, 700023}, cause: cause{
			meaning: "the scope is not one that an application can ask for",
			remedy:  "Give the scope as the API's root and /.default, such as https://graph.microsoft.com/.default, or leave it out for the default.",
		}},
		{codes: []int{901002}, cause: cause{
			meaning: "a resource was sent to the v2.0 token endpoint, which takes a scope",
			remedy:  "Give authentication.scope in place of the resource, or the authorization URL with /oauth2/token at its end.",
		}},
		{codes: []int{900144, 90014}, cause: cause{
			meaning: "a part of the request is missing",
			remedy:  "Check that application id and credential are set, and that a resource goes with an authorization URL that ends in /oauth2/token, a scope with one that ends in /oauth2/v2.0/token.",
		}},
		{codes: []int{50033, 90006, 90012, 90024, 90033, 90055}, cause: cause{transient: true}},
	}
}
