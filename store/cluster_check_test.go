package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// password is what no error may show.
const password = "a-word-that-is-secret"

// permitted is what docs/cluster.md says to allow the user of the service.
const permitted = `permissions: {
	publish: ["$JS.API.>", "$JS.FC.>", "$KV.>", "defender.journal.>"]
	subscribe: ["_INBOX.>"]
}`

// startConfigured starts a server with a configuration file's text, and returns it.
func startConfigured(t *testing.T, config string) *server.Server {
	t.Helper()
	options := &server.Options{}
	must(t, options.ProcessConfigString(config))
	options.Host, options.Port, options.NoSigs, options.NoLog, options.StoreDir = "127.0.0.1", server.RANDOM_PORT, true, true, t.TempDir()
	return startOptions(t, options)
}

// startOptions starts a server.
func startOptions(t *testing.T, options *server.Options) *server.Server {
	t.Helper()
	// In seconds: a client that a busy machine gives no time for so long is no stranger.
	options.AuthTimeout, options.TLSTimeout = 60, 60
	s, err := server.NewServer(options)
	must(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server did not start")
	}
	return s
}

// as returns the URL of a server with a user.
func as(s *server.Server, user, word string) string {
	return fmt.Sprintf("nats://%s:%s@%s", user, word, strings.TrimPrefix(s.ClientURL(), "nats://"))
}

// userWith is a configuration with one user of an account with JetStream.
func userWith(account, user string) string {
	return fmt.Sprintf(`
		jetstream: {}
		accounts: {A: {%s, users: [{user: service, password: %q, %s}]}}
		`, account, password, user)
}

func TestAClusterThatCannotBeUsedIsToldInWords(t *testing.T) {
	denied := func(kind, subject string) string {
		return userWith("jetstream: enabled", fmt.Sprintf(`permissions: {%s: {deny: [%q]}}`, kind, subject))
	}
	tests := map[string]struct {
		config  string
		options Options
		word    string // the password that is given; empty: the right one
		kind    error
		words   string
	}{
		"a wrong password": {
			config: userWith("jetstream: enabled", ""), word: password + "-and-wrong", kind: ErrSetup, words: "does not let the service in",
		},
		"servers without JetStream": {
			config: fmt.Sprintf(`accounts: {A: {users: [{user: service, password: %q}]}}`, password),
			kind:   ErrUnavailable, words: "JetStream does not answer: see that the servers are started with JetStream",
		},
		"an account without JetStream": {
			config: userWith("jetstream: disabled", ""), kind: ErrSetup, words: "JetStream is not enabled for the account",
		},
		"no right to ask JetStream": {
			config: denied("publish", "$JS.API.>"), kind: ErrSetup, words: "no right to publish to $JS.API.INFO: let the user publish to $JS.API.>",
		},
		"no right to make streams": {
			config: denied("publish", "$JS.API.STREAM.CREATE.>"), kind: ErrSetup, words: "no right to publish to $JS.API.STREAM.CREATE.KV_defender-records",
		},
		"no right to read": {
			config: denied("publish", "$JS.API.DIRECT.GET.>"), kind: ErrSetup, words: "no right to publish to $JS.API.DIRECT.GET.defender-journal-check-check",
		},
		"no right to keep records": {
			config: denied("publish", "$KV.>"), kind: ErrSetup, words: "no right to publish to $KV.defender-records.check: let the user publish to $KV.>",
		},
		"no right to append": {
			config: denied("publish", "defender.>"), kind: ErrSetup, words: "let the user publish to defender.journal.>",
		},
		"no right to answers": {
			config: denied("subscribe", "_INBOX.>"), kind: ErrSetup, words: "no right to subscribe to _INBOX.",
		},
		"too few streams": {
			config: userWith("jetstream: {max_streams: 2}", ""), kind: ErrSetup, words: "the account may have no more streams: raise its limit",
		},
		"too little storage": {
			config: userWith("jetstream: {max_file: 1MB}", ""), options: Options{JournalMaxBytes: 1 << 30},
			kind: ErrSetup, words: "the account's storage is used up, or smaller than what is asked for",
		},
		"streams without a limit": {
			config: userWith("jetstream: {max_bytes_required: true}", ""), kind: ErrSetup, words: "set --nats-max-bytes",
		},
		"streams with a limit that is too high": {
			config: userWith("jetstream: {disk_max_stream_bytes: 1MB}", ""), options: Options{JournalMaxBytes: 1 << 30},
			kind: ErrSetup, words: "the account allows smaller streams only: lower --nats-max-bytes",
		},
		"messages that are too small": {
			config: userWith("jetstream: enabled", "") + "\nmax_payload: 64KB", kind: ErrSetup, words: "set max_payload to 1MB",
		},
		"replicas on one server": {
			config: userWith("jetstream: enabled", ""), options: Options{Replicas: 3}, kind: ErrSetup, words: "set --nats-replicas to 1, or name a cluster",
		},
		"nothing but an error of the options": {
			config: userWith("jetstream: enabled", ""), options: Options{Access: Access{Certificate: os.DevNull}},
			kind: ErrSetup, words: "--nats-cert and --nats-key go together",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := test.options
			word := test.word
			if word == "" {
				word = password
			}
			options.URL, options.Logger = as(startConfigured(t, test.config), "service", word), logger(t)
			wantRefused(t, options, test.kind, test.words)
		})
	}
}

// wantRefused opens a store that is to be refused, in words that show no secret.
func wantRefused(t *testing.T, options Options, kind error, words string) {
	t.Helper()
	err := openRefused(t, options)
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("%v, want %v with the words %q", err, kind, words)
	}
	if strings.Contains(err.Error(), password) {
		t.Errorf("the error shows the password: %v", err)
	}
}

// openRefused returns why a store is not opened.
func openRefused(t *testing.T, options Options) error {
	t.Helper()
	return unlessLate(t, func() error {
		s, err := OpenJetStream(t.Context(), options)
		if err == nil {
			_ = s.Close()
			t.Fatal("it was opened")
		}
		return err
	})
}

// unlessLate returns what ask does. Where a connection could not be made in time, as on a machine that is busy, it asks again, as the service
// does; a call that took too long is no such case.
func unlessLate(t *testing.T, ask func() error) (err error) {
	t.Helper()
	eventually(t, "a connection that is made in time", func() bool {
		err = ask()
		late, ok := errors.AsType[*net.OpError](err)
		return !ok || !late.Timeout()
	})
	return err
}

func TestAURLThatCannotBeReadIsNotShown(t *testing.T) {
	for _, url := range []string{"nats://service:" + password + "@%zz", "nats://:" + password + "@", password + ":" + password + ":x@y:z", ","} {
		wantRefused(t, Options{URL: url}, ErrSetup, "--nats-url holds something that is no URL")
	}
}

// The rights that the documentation names are enough, and finding out about them leaves nothing behind.
func TestTheDocumentedRightsAreEnough(t *testing.T) {
	s := openURL(t, as(startConfigured(t, userWith("jetstream: enabled", permitted)), "service", password))
	for name, bucket := range map[string]interface{ Bucket() string }{"records": s.records, "checkpoints": s.checkpoints} {
		stream, err := s.js.Stream(t.Context(), "KV_"+bucket.Bucket())
		must(t, err)
		if state := stream.CachedInfo().State; state.LastSeq != 0 {
			t.Errorf("the bucket of %s has %+v after the check", name, state)
		}
	}
	changes, err := s.WatchRecords(t.Context())
	must(t, err)
	if c := receive(t, changes); !c.Synced {
		t.Fatalf("%+v", c)
	}
	revision, err := s.CreateRecord(t.Context(), record("one", "uid"))
	must(t, err)
	if c := receive(t, changes); c.Revision != revision {
		t.Fatalf("%+v", c)
	}
	j, checkpoint := writer(t, s, "uid")
	_, err = j.Append(t.Context(), entries(1, 1200))
	must(t, err)
	save(t, j, 1200)
	wantEntries(t, j, 1, 1200, 1, 1200)
	must(t, j.Trim(t.Context(), 10, time.Time{}))
	waited := wait(t, j, checkpoint.GetIdentity(), 1200)
	must(t, s.DeleteJournal(t.Context(), "uid"))
	wantError(t, receive(t, waited).err, ErrNotFound)
	_, err = s.PutLedger(t.Context(), "key", &storev1.Ledger{}, 0)
	must(t, err)
}

func TestAnOldServerIsRefused(t *testing.T) {
	for version, words := range map[string]string{
		"2.11.9": "its server has version 2.11.9, and 2.12 or later is needed",
		"1.4.0":  "its server has version 1.4.0",
		"":       "upgrade all servers of the cluster",
	} {
		wantRefused(t, Options{URL: startOld(t, version), Timeout: 5 * time.Second}, ErrSetup, words)
	}
}

func TestAnOldServerIsNotCopiedFrom(t *testing.T) {
	from := Options{URL: startSaying(t, startServer(t), "2.14.9"), Logger: logger(t)}
	_, err := copied(t, from, Options{Dir: t.TempDir(), Logger: logger(t)})
	wantError(t, err, ErrSetup)
	if words := "its server has version 2.14.9, and copying needs 2.15 or later"; err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want %q", err, words)
	}
}

// startSaying starts what passes connections on to a server, which says to its clients that it is of some version. It returns its URL.
func startSaying(t *testing.T, url, version string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	pass := func(client net.Conn) {
		defer func() { _ = client.Close() }()
		server, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		all.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		})
		said := regexp.MustCompile(`^INFO (.*"version":)"[^"]*"`)
		for answers := bufio.NewReader(server); ; {
			line, err := answers.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(client, said.ReplaceAllString(line, fmt.Sprintf("INFO ${1}%q", version)))
		}
	}
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return "nats://" + listener.Addr().String()
}

// startOld starts what says to be a server of some version, and knows no more than to greet and to answer pings. It returns its URL.
func startOld(t *testing.T, version string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "INFO {\"server_id\":\"old\",\"version\":%q,\"max_payload\":1048576,\"headers\":true}\r\n", version)
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "PING") {
					_, _ = fmt.Fprint(conn, "PONG\r\n")
				}
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "nats://" + listener.Addr().String()
}

func TestAccessByNKeyAndCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, content, 0o600))
		return path
	}
	user, err := nkeys.CreateUser()
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	public, err := user.PublicKey()
	must(t, err)

	t.Run("nkey", func(t *testing.T) {
		s := startConfigured(t, fmt.Sprintf(`jetstream: {}, accounts: {A: {jetstream: enabled, users: [{nkey: %s}]}}`, public))
		closeStore(t, openCluster(t, Options{URL: s.ClientURL(), Access: Access{NKey: write("seed", seed)}}))
		wantRefused(t, Options{URL: s.ClientURL(), Access: Access{NKey: write("none", []byte(password))}}, ErrSetup, "holds no seed of a user's nkey")
		wantRefused(t, Options{URL: s.ClientURL()}, ErrSetup, "does not let the service in")
	})
	t.Run("credentials", func(t *testing.T) {
		s, credentials := startWithJWT(t, seed, public)
		closeStore(t, openCluster(t, Options{URL: s.ClientURL(), Access: Access{Credentials: write("service.creds", credentials)}}))
		wantRefused(t, Options{URL: s.ClientURL(), Access: Access{Credentials: filepath.Join(dir, "nowhere")}}, ErrSetup, "--nats-creds")
		wantRefused(t, Options{URL: s.ClientURL(), Access: Access{Credentials: os.DevNull, NKey: os.DevNull}}, ErrSetup, "give one")
	})
}

// startWithJWT starts a server whose users show a JWT, and returns the credentials file of one.
func startWithJWT(t *testing.T, seed []byte, public string) (*server.Server, []byte) {
	t.Helper()
	operator, err := nkeys.CreateOperator()
	must(t, err)
	account, err := nkeys.CreateAccount()
	must(t, err)
	operatorKey, err := operator.PublicKey()
	must(t, err)
	accountKey, err := account.PublicKey()
	must(t, err)
	system, err := nkeys.CreateAccount()
	must(t, err)
	systemKey, err := system.PublicKey()
	must(t, err)

	claims := jwt.NewAccountClaims(accountKey)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := claims.Encode(operator)
	must(t, err)
	systemJWT, err := jwt.NewAccountClaims(systemKey).Encode(operator)
	must(t, err)
	userJWT, err := jwt.NewUserClaims(public).Encode(account)
	must(t, err)
	credentials, err := jwt.FormatUserConfig(userJWT, seed)
	must(t, err)

	resolver := &server.MemAccResolver{}
	must(t, resolver.Store(accountKey, accountJWT))
	must(t, resolver.Store(systemKey, systemJWT))
	return startOptions(t, &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		TrustedKeys: []string{operatorKey}, AccountResolver: resolver, SystemAccount: systemKey,
	}), credentials
}
