package defendertest

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// IdentityProvider is another identity provider than Entra, such as a Kubernetes cluster, whose tokens can prove an application; see
// [Application.AddFederatedCredential]. Its keys need no publishing: the server knows them.
type IdentityProvider struct {
	issuer string
	key    *rsa.PrivateKey
}

// NewIdentityProvider makes an identity provider that calls itself by an issuer's URL.
func NewIdentityProvider(issuer string) (*IdentityProvider, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make an identity provider's key: %w", err)
	}
	return &IdentityProvider{issuer: issuer, key: key}, nil
}

// FederatedToken is what a token of an [IdentityProvider] says.
type FederatedToken struct {
	// Subject is whose it is, such as system:serviceaccount:NAMESPACE:NAME.
	Subject string
	// Audience is whom it is for. Default: Entra's exchange, api://AzureADTokenExchange.
	Audience string
	// Issued and Expires are its times.
	Issued, Expires time.Time
}

// Sign makes a token, as Kubernetes does
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens).
func (p *IdentityProvider) Sign(token FederatedToken) (string, error) {
	if token.Audience == "" {
		token.Audience = exchangeAudience
	}
	claims := jwt.RegisteredClaims{
		Issuer:    p.issuer,
		Subject:   token.Subject,
		Audience:  jwt.ClaimStrings{token.Audience},
		IssuedAt:  jwt.NewNumericDate(token.Issued),
		NotBefore: jwt.NewNumericDate(token.Issued),
		ExpiresAt: jwt.NewNumericDate(token.Expires),
		ID:        newGUID(),
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	unsigned.Header["kid"] = "simulated"
	signed, err := unsigned.SignedString(p.key)
	if err != nil {
		return "", fmt.Errorf("sign a federated token: %w", err)
	}
	return signed, nil
}
