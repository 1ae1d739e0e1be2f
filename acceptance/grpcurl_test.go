package acceptance_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"defender-integration/acceptance/process"
	"defender-integration/defender/defendertest"
)

// TestGrpcurl does by hand, with the real grpcurl against the real program, what a person tries first: serve and simulate are two
// processes, and the commands are those that simulate prints.
func TestGrpcurl(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "tour") // short, for the unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	writeAuthority(t, dir)
	shell := process.Shell{
		Dir: dir, Path: filepath.Dir(service(t)) + ":" + filepath.Dir(grpcurl(t)),
		Variables: map[string]string{"SERVICE": "defender.integration.v1.IntegrationService"},
	}

	simulate := shell.Background(t, `exec defender-integration simulate --alert-every 300ms --target '$TARGET' --grpcurl-flags '$FLAGS'`)
	printed := simulate.WaitFor(t, "the printed commands", func(output string) bool { return strings.Contains(output, "Ctrl-C ends it") })
	commands := printedCommands(printed)
	if len(commands) != 4 {
		t.Fatalf("simulate prints %d commands for grpcurl:\n%s", len(commands), printed)
	}
	shell.Variables["ALLOW"] = regexp.MustCompile(`--allow-endpoint (\S+)`).FindStringSubmatch(printed)[1]
	const common = "exec defender-integration serve --allow-http --allow-endpoint $ALLOW --metrics-address none "

	serve := shell.Background(t, common+"--listen 127.0.0.1:0 --unix-socket service.sock --data-dir data")
	address := listening(t, serve, "tcp")

	t.Run("TCP", func(t *testing.T) {
		walk(t, with(shell, "TARGET", address, "FLAGS", "-plaintext"), commands)
	})
	t.Run("unix socket", func(t *testing.T) {
		walk(t, with(shell, "TARGET", filepath.Join(dir, "service.sock"), "FLAGS", "-plaintext -unix"), commands)
	})
	serve.Stop(t)

	t.Run("mutual TLS", func(t *testing.T) {
		serve := shell.Background(t, common+"--listen 127.0.0.1:0 --data-dir data-tls --tls-cert server.pem --tls-key server.key --tls-client-ca clients.pem")
		address := strings.Replace(listening(t, serve, "tcp"), "127.0.0.1", "localhost", 1) // the certificate's name
		walk(t, with(shell, "TARGET", address, "FLAGS", "-cacert authority.pem -cert client.pem -key client.key"), commands)

		stranger := with(shell, "TARGET", address, "FLAGS", "-cacert authority.pem")
		for _, call := range []string{"list", "$SERVICE/ListIntegrations", "grpc.health.v1.Health/Check"} {
			refused := stranger.Refused(t, "grpcurl -max-time 10 $FLAGS $TARGET "+call)
			if !strings.Contains(refused, "certificate required") {
				t.Errorf("%s without a client certificate: %s", call, refused)
			}
		}
		with(stranger, "FLAGS", "-plaintext").Refused(t, "grpcurl -max-time 10 $FLAGS $TARGET list")
		serve.Stop(t)
	})
	simulate.Stop(t)
}

// walk lists and describes the service, registers the simulated tenant where it is not yet, gets it, tests it, streams for one
// Actor and resumes.
func walk(t *testing.T, shell process.Shell, commands []string) {
	t.Helper()
	out := shell.Run(t,
		"grpcurl $FLAGS $TARGET list",
		"grpcurl $FLAGS $TARGET describe $SERVICE",
		"grpcurl $FLAGS $TARGET describe .defender.integration.v1.StreamAlertsRequest")
	for i, want := range []string{"defender.integration.v1.IntegrationService", "rpc StreamAlerts", "string resume_token = 5"} {
		if !strings.Contains(out[i], want) {
			t.Errorf("%q is missing from:\n%s", want, out[i])
		}
	}
	register, test, stream := commands[0], commands[1], commands[2]
	registered := shell.Run(t, register, register) // a second time changes nothing
	if etagOf(t, registered[0]) != etagOf(t, registered[1]) {
		t.Errorf("registering again changed it:\n%s\n%s", registered[0], registered[1])
	}
	got := shell.Run(t, `grpcurl $FLAGS -d '{"integration_id": "simulated"}' $TARGET $SERVICE/GetIntegration`)[0]
	if etagOf(t, got) == "" || strings.Contains(got+registered[0], defendertest.RunSecret) {
		t.Errorf("the integration is\n%s", got)
	}
	if tested := shell.Run(t, test)[0]; !strings.Contains(tested, `"health": "HEALTH_HEALTHY"`) {
		t.Errorf("the connectivity test says\n%s", tested)
	}

	streamed := events(t, shell.Watch(t, stream, `"alert": {`, `"progress": {`))
	i := slices.IndexFunc(streamed, func(e event) bool { return e.Alert != nil })
	if streamed[0].Actors == nil || i < 0 {
		t.Fatalf("the stream begins with %+v", streamed)
	}
	// Resumed before its first alert the stream brings that and what followed; behind it, what followed alone.
	all := ids(streamed)
	for from, want := range map[int][]string{0: all, i: all[1:]} {
		resumed := ids(events(t, shell.Watch(t, resuming(stream, streamed[from].ResumeToken), append(want, `"alert": {`)...)))
		if len(resumed) < len(want) || !slices.Equal(resumed[:len(want)], want) || from == i && slices.Contains(resumed, all[0]) {
			t.Errorf("after event %d came %q; resumed there came %q", from, want, resumed)
		}
	}
	refused := shell.Refused(t, resuming(stream, "D"+streamed[i].ResumeToken[1:]))
	if !strings.Contains(refused, "RESUME_TOKEN_INVALID") {
		t.Errorf("a damaged token is answered with\n%s", refused)
	}
}

// resuming puts a token into the printed command.
func resuming(stream, token string) string {
	return strings.Replace(stream, `"reference":`, `"resume_token": "`+token+`", "reference":`, 1)
}

// event is what the test looks at of an event as grpcurl prints it.
type event struct {
	Reference   string          `json:"reference"`
	ResumeToken string          `json:"resumeToken"`
	Actors      json.RawMessage `json:"actors"`
	Alert       *struct {
		Alert struct {
			ID string `json:"id"`
		} `json:"alert"`
	} `json:"alert"`
}

// events reads what grpcurl printed of a stream. The last event may be cut.
func events(t *testing.T, output string) []event {
	t.Helper()
	var list []event
	for decoder := json.NewDecoder(strings.NewReader(output)); ; {
		var e event
		if err := decoder.Decode(&e); err != nil {
			break
		}
		if e.Reference != "try-1" || e.ResumeToken == "" {
			t.Errorf("an event without its reference or token: %+v", e)
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		t.Fatalf("no event in\n%s", output)
	}
	return list
}

// ids returns the ids of the alerts among events.
func ids(list []event) []string {
	var all []string
	for _, e := range list {
		if e.Alert != nil {
			all = append(all, e.Alert.Alert.ID)
		}
	}
	return all
}

// etagOf reads an integration's etag.
func etagOf(t *testing.T, output string) string {
	t.Helper()
	var answer struct {
		Integration struct {
			Etag string `json:"etag"`
		} `json:"integration"`
	}
	if err := json.Unmarshal([]byte(output), &answer); err != nil {
		t.Fatalf("%v in\n%s", err, output)
	}
	return answer.Integration.Etag
}

// with returns the shell with further variables, given as names and values.
func with(shell process.Shell, pairs ...string) process.Shell {
	variables := maps.Clone(shell.Variables)
	for i := 0; i < len(pairs); i += 2 {
		variables[pairs[i]] = pairs[i+1]
	}
	shell.Variables = variables
	return shell
}

// printedCommands returns the commands for grpcurl that simulate printed: each begins a line, and ends before the next blank one.
func printedCommands(output string) []string {
	var commands []string
	for paragraph := range strings.SplitSeq(output, "\n\n") {
		if strings.HasPrefix(strings.TrimSpace(paragraph), "grpcurl ") {
			commands = append(commands, strings.TrimSpace(paragraph))
		}
	}
	return commands
}

// listening returns the address that the service says it listens on.
func listening(t *testing.T, serve *process.Process, network string) string {
	t.Helper()
	line := regexp.MustCompile(`"msg":"listening","network":"` + network + `","address":"([^"]+)"`)
	output := serve.WaitFor(t, "the address", func(output string) bool { return strings.Contains(output, `"msg":"ready"`) })
	found := line.FindStringSubmatch(output)
	if found == nil {
		t.Fatalf("no address in\n%s", output)
	}
	return found[1]
}
