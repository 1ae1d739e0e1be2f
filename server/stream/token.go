package stream

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

const (
	// tokenFormat is the version of resume tokens.
	tokenFormat = 1
	// wholeEntry is the ordinal of a position behind all events of an entry.
	wholeEntry = math.MaxUint32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// position is a place in a stream: a sequence of the journal, and the ordinal of the last event of that entry that was sent.
type position struct {
	sequence uint64
	ordinal  uint32
}

// encodeToken makes the text of a token: the message and a checksum that tells damage. It is no signature: a forged token only
// moves its forger to another place of a stream that it may read anyway.
func encodeToken(token *storev1.ResumeToken) string {
	// Marshalling a message of these fields cannot fail.
	data, _ := proto.MarshalOptions{Deterministic: true}.Marshal(token)
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	return base64.RawURLEncoding.EncodeToString(data)
}

// decodeToken reads the text of a token. What cannot be one that this version gave out is refused as RESUME_TOKEN_INVALID.
func decodeToken(text string) (*storev1.ResumeToken, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(data) < 4 {
		return nil, invalidToken("it is not a resume token")
	}
	body, sum := data[:len(data)-4], binary.BigEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, invalidToken("it is damaged")
	}
	token := &storev1.ResumeToken{}
	if err := proto.Unmarshal(body, token); err != nil {
		return nil, invalidToken("it is damaged")
	}
	// A field that is not known here may say what else the position depends on.
	if token.GetFormat() != tokenFormat || hasUnknown(token) {
		return nil, invalidToken("it is of another version of this service")
	}
	if !sound(token) {
		return nil, invalidToken("it is damaged")
	}
	return token, nil
}

// invalidToken refuses a token that no event had.
func invalidToken(why string) error {
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID,
		"resume_token cannot be used: %s; give the token of an event exactly as it came, or none to begin anew", why)
}

// hasUnknown says whether a token has fields that this version does not know.
func hasUnknown(token *storev1.ResumeToken) bool {
	return len(token.ProtoReflect().GetUnknown())+len(token.GetBinding().ProtoReflect().GetUnknown())+
		len(token.GetStartTime().ProtoReflect().GetUnknown()) > 0
}

// sound says whether a token can be one that was given out: it names a journal, a position, and a time that there is.
func sound(token *storev1.ResumeToken) bool {
	return token.GetUid() != "" && token.GetIdentity() != "" &&
		(token.GetSequence() > 0 || token.GetOrdinal() == wholeEntry) &&
		(token.GetStartTime() == nil || token.GetStartTime().IsValid()) &&
		!slices.ContainsFunc(token.GetVerdicts(), func(packed byte) bool { _, ok := unpackVerdict(packed); return !ok })
}

// bindingOf hashes what of a request its tokens are bound to: Actors and window with all that stands in them, also what only a later
// version knows, and the thresholds as they are in force, so that a token outlives no change of a default. The order of the Actors does
// not count.
func bindingOf(request *integrationv1.StreamAlertsRequest) *storev1.ResumeToken_Binding {
	actors := slices.Clone(request.GetActors())
	slices.SortFunc(actors, func(a, b *integrationv1.Actor) int { return strings.Compare(a.GetActorId(), b.GetActorId()) })
	return &storev1.ResumeToken_Binding{
		Actors: hashOf(&integrationv1.StreamAlertsRequest{Actors: actors}),
		Window: hashOf(&integrationv1.StreamAlertsRequest{Window: request.GetWindow()}),
		Thresholds: hashOf(&integrationv1.StreamAlertsRequest{
			Wait:      durationpb.New(orDefault(request.GetWait(), defaultWait)),
			Tolerance: durationpb.New(orDefault(request.GetTolerance(), defaultTolerance)),
			OnTime:    durationpb.New(orDefault(request.GetOnTime(), defaultOnTime)),

			MinConfidence: boundConfidence(request),
		}),
	}
}

// boundConfidence returns the confidence that is in force as a binding has it. DEVICE_ONLY stands there as nothing, whatever the
// default: it was in force in every request before there was a choice, and the tokens of those stay good.
func boundConfidence(request *integrationv1.StreamAlertsRequest) integrationv1.Confidence {
	if in := minConfidenceOf(request); in != integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY {
		return in
	}
	return integrationv1.Confidence_CONFIDENCE_UNSPECIFIED
}

func hashOf(message proto.Message) []byte {
	data, _ := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	sum := sha256.Sum256(data)
	return sum[:16]
}

// foreign says what of a request differs from the one that a token was given to; "" where nothing does.
func foreign(token, own *storev1.ResumeToken) string {
	switch {
	case token.GetIntegrationId() != own.GetIntegrationId():
		return "integration_id"
	case !slices.Equal(token.GetBinding().GetActors(), own.GetBinding().GetActors()):
		return "actors"
	case !slices.Equal(token.GetBinding().GetWindow(), own.GetBinding().GetWindow()):
		return "window"
	case !slices.Equal(token.GetBinding().GetThresholds(), own.GetBinding().GetThresholds()):
		return "wait, tolerance, on_time or min_confidence"
	}
	return ""
}
