package stream

// What the tests beside the package make tokens with.
var (
	EncodeToken = encodeToken
	DecodeToken = decodeToken
)

// WholeEntry is the ordinal of a position behind all events of an entry.
const WholeEntry = wholeEntry

// FitCompleted is fitCompleted, for tests.
var FitCompleted = fitCompleted
