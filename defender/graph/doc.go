// Package graph reads alerts over Microsoft Graph's alerts_v2
// (https://learn.microsoft.com/en-us/graph/api/security-list-alerts_v2): how it is paged, and how its elements are decoded.
package graph
