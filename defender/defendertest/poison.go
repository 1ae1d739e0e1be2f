package defendertest

import (
	"context"
	"net/http"
	"slices"
)

// Poison makes Microsoft fail on these alerts, however few alerts are asked for: it answers 500 in place of every answer that would hold
// one of them, and truly otherwise.
func Poison(keys ...string) Responder {
	return Poisoned(Respond(http.StatusInternalServerError, nil, `{"error":{"code":"generalException","message":"An alert cannot be read."}}`), keys...)
}

// Poisoned answers with a responder in place of every answer that would hold one of these alerts, and truly otherwise. Each request
// counts against the limits.
func Poisoned(respond Responder, keys ...string) Responder {
	return func(ctx context.Context, r *http.Request, next func() *Answer) *Answer {
		answer := next()
		if slices.ContainsFunc(answer.held, func(r *revision) bool { return slices.Contains(keys, r.key) }) {
			return respond(ctx, r, func() *Answer { return answer })
		}
		return answer
	}
}
