// Package endpoint reads alerts over the Defender for Endpoint API
// (https://learn.microsoft.com/en-us/defender-endpoint/api/get-alerts): how its list is paged, and how its elements are decoded.
//
// An alert of this API has one machine, and evidence that is one flat object whatever it is. Both become the evidence that Graph
// would have of them, so that what follows need not know where an alert is from.
package endpoint
