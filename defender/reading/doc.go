// Package reading is what reads of alerts share, whichever API they are made at: [Elements] gives each element on once and knows
// when the read began, and [List] pages a list of OData's by the time of the last update.
package reading
