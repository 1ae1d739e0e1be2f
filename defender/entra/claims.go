package entra

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

// Claims are what a token says about itself. Microsoft's tokens are formally opaque
// (https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens): this is for diagnosis, nothing is decided by it.
type Claims struct {
	// Audience is the API that the token is for.
	Audience string `json:"aud"`
	// Roles are the application permissions that were consented to. Entra gives a token without any, too.
	Roles []string `json:"roles"`
	// Tenant is the tenant's id.
	Tenant string `json:"tid"`
}

// maxClaims bounds what is decoded of a token.
const maxClaims = 64 << 10

// ReadClaims decodes a token's claims without verifying it: the API does that. The error repeats nothing of the token.
func ReadClaims(token string) (Claims, error) {
	var claims Claims
	if err := decodeClaims(token, &claims); err != nil {
		return Claims{}, err
	}
	return claims, nil
}

// decodeClaims decodes the claims of a JSON Web Token (https://www.rfc-editor.org/rfc/rfc7519) into a struct.
func decodeClaims(token string, claims any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(parts[1]) > maxClaims {
		return errors.New("the token is not a JSON Web Token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return errors.New("the token's claims are not in base64")
	}
	if json.Unmarshal(raw, claims) != nil {
		return errors.New("the token's claims are not the JSON that was expected")
	}
	return nil
}
