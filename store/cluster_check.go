package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// oldestMinor is the oldest version of the servers, 2.12, and apiLevel what it says of itself: it has atomic batches.
	oldestMinor = 12
	apiLevel    = 2
	// copyMinor is the oldest that a store is copied to or from: that of the engine in this process. An older one does not read its snapshots
	// with certainty, nor it an older one's.
	copyMinor = 15
	// payloadNeeded is how large a message the cluster has to take, in bytes: an entry with its frame and headers.
	payloadNeeded = MaxEntrySize + 4096
)

// check returns ErrSetup where the cluster cannot be used, with what is missing and what to do about it.
func (s *JetStream) check(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := checkServer(s.conn.ConnectedServerVersion(), s.conn.MaxPayload()); err != nil {
		return err
	}
	if err := s.checkRights(); err != nil {
		return err
	}
	account, err := s.js.AccountInfo(ctx)
	if err != nil {
		return s.explain(err)
	}
	if err := s.checkAccount(account); err != nil {
		return err
	}
	if servers := len(s.conn.Servers()); servers >= 3 && s.options.Replicas < 3 {
		s.logger.WarnContext(ctx, "the NATS cluster has several servers, and fewer than three keep each entry: with --nats-replicas 3 none is lost with a server",
			"servers", servers, "replicas", s.options.Replicas)
	}
	s.conn.SetErrorHandler(s.complained)
	return nil
}

// checkServer checks what the server that we are connected to says of itself.
func checkServer(version string, maxPayload int64) error {
	if older(version, oldestMinor) {
		return fmt.Errorf("%w: its server has version %s, and 2.%d or later is needed (atomic batches): upgrade all servers of the cluster",
			ErrSetup, version, oldestMinor)
	}
	if maxPayload < payloadNeeded {
		return fmt.Errorf("%w: it takes messages of at most %d bytes, and entries have up to %d: set max_payload to 1MB, its default, or more",
			ErrSetup, maxPayload, payloadNeeded)
	}
	return nil
}

// older says whether a server's version is older than 2.minor, or is none.
func older(version string, minor int) bool {
	major, rest, _ := strings.Cut(version, ".")
	middle, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(major)
	y, errY := strconv.Atoi(middle)
	return errX != nil || errY != nil || x < 2 || x == 2 && y < minor
}

// checkCopies checks whether a server of a version copies to and from the engine in this process.
func checkCopies(version string) error {
	if older(version, copyMinor) {
		return fmt.Errorf("%w: its server has version %s, and copying needs 2.%d or later, as this program has: upgrade all servers of the cluster",
			ErrSetup, version, copyMinor)
	}
	return nil
}

// checkAccount checks the limits of the account.
func (s *JetStream) checkAccount(account *jetstream.AccountInfo) error {
	if account.API.Level < apiLevel {
		return fmt.Errorf("%w: its JetStream has API level %d, and %d is needed (atomic batches): upgrade all its servers to 2.%d or later",
			ErrSetup, account.API.Level, apiLevel, oldestMinor)
	}
	limits := account.Limits
	if len(account.Tiers) > 0 {
		tier, ok := account.Tiers[fmt.Sprintf("R%d", s.options.Replicas)]
		if !ok {
			return fmt.Errorf("%w: the account has no limits for streams with %d replicas: give it some, or set --nats-replicas to what it may have",
				ErrSetup, s.options.Replicas)
		}
		limits = tier.Limits
	}
	if limits.MaxStore == 0 {
		return fmt.Errorf("%w: the account may store nothing in files: give it storage (max_file, disk_storage)", ErrSetup)
	}
	if limits.MaxBytesRequired && s.options.JournalMaxBytes == 0 {
		return fmt.Errorf("%w: the account demands a size limit of each stream: set --nats-max-bytes", ErrSetup)
	}
	return nil
}

// right is something that the service has to be allowed to do.
type right struct {
	subject string
	// allow is what to allow for it.
	allow string
}

// rights returns what the service publishes to. What is published to find out whether it may changes nothing: the requests are empty,
// or name a stream that there is not, or demand one.
func (s *JetStream) rights() []right {
	prefix := s.options.Prefix
	bucket, journal := "KV_"+prefix+"-records", prefix+"-journal-check-check"
	api := func(format, stream string) right {
		return right{fmt.Sprintf("$JS.API."+format, stream), "$JS.API.>"}
	}
	return []right{
		{"$JS.API.INFO", "$JS.API.>"},
		{"$JS.API.STREAM.NAMES", "$JS.API.>"},
		api("STREAM.INFO.%s", bucket), api("STREAM.INFO.%s", journal),
		api("STREAM.CREATE.%s", bucket), api("STREAM.CREATE.%s", journal),
		api("STREAM.UPDATE.%s", bucket), api("STREAM.UPDATE.%s", journal),
		api("STREAM.MSG.GET.%s", bucket), api("STREAM.MSG.GET.%s", journal),
		api("STREAM.PURGE.%s", journal), api("STREAM.DELETE.%s", journal),
		api("DIRECT.GET.%s", journal),
		api("CONSUMER.CREATE.%s.check", bucket), api("CONSUMER.DELETE.%s.check", bucket),
		{"$JS.FC." + bucket + ".check", "$JS.FC.>"},
		{"$KV." + prefix + "-records.check", "$KV.>"},
		{"$KV." + prefix + "-checkpoints.check", "$KV.>"},
		{prefix + ".journal.check.check", prefix + ".journal.>"},
	}
}

// checkRights returns ErrSetup where the cluster does not let the service publish or subscribe to what it uses.
func (s *JetStream) checkRights() error {
	inbox := s.conn.NewInbox()
	subscription, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return unavailable(err)
	}
	denied, err := s.denied(inbox)
	if err := errors.Join(err, subscription.Unsubscribe()); err != nil {
		return unavailable(err)
	}
	if denied {
		return fmt.Errorf("%w: there is no right to subscribe to %s, where its answers come: let the user subscribe to _INBOX.>", ErrSetup, inbox)
	}
	for _, right := range s.rights() {
		message := nats.NewMsg(right.subject)
		// No stream takes a message that is meant for another one.
		message.Header.Set(jetstream.ExpectedStreamHeader, s.options.Prefix+"-check")
		if strings.HasPrefix(right.subject, "$JS.") {
			message.Header = nil // A request that is empty is refused as such.
		}
		if err := s.conn.PublishMsg(message); err != nil {
			return unavailable(err)
		}
		denied, err := s.denied(right.subject)
		if err != nil {
			return unavailable(err)
		}
		if denied {
			return fmt.Errorf("%w: there is no right to publish to %s: let the user publish to %s", ErrSetup, right.subject, right.allow)
		}
	}
	return nil
}

// denied says whether the cluster refused what was just sent, because of that subject.
func (s *JetStream) denied(subject string) (bool, error) {
	// The server answers in order: what it refuses, it refuses before it answers the flush.
	if err := s.conn.FlushTimeout(s.options.Timeout); err != nil {
		return false, err
	}
	err := s.conn.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`), nil
}
