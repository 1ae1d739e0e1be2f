package origin_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"defender-integration/acceptance/process"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// What is planted in a full run besides what a house plants: a secret for each place where one can stand.
const (
	inFile, inVariable, rotatedSecret = "planted~file~secret", "planted~variable~secret", "planted~rotated~secret"
	wrongSecret, inYAML               = "planted~wrong~secret", "planted~yaml~secret"
	passwordVariable                  = "ORIGIN_TEST_PASSWORD"
)

// artefact is something that a run leaves.
type artefact struct {
	name    string
	content []byte
}

// fullRun is a house with what a full run needs, and what it left so far.
type fullRun struct {
	*house
	proxy     *defendertest.Proxy
	files     string // the directory of --integrations
	program   string
	sealing   secrets // the sealing keys, which stand in their own file alone
	artefacts []artefact
	traces    notebook
}

// TestNothingOfAFullRunHoldsASecret plants a secret in every place where one can stand, and a token wherever one is got, lets the service
// do all that it does, and searches all that this leaves. Planted are: client secrets given over the API, in a file and in an environment
// variable, one that is rotated and one that is wrong; a certificate's private key; a federated token; the assertions that are signed with
// them; a proxy's password, given and in a variable; the access tokens that Entra gives; the sealing keys before and after a rotation; and a
// secret that is written into a file of the configuration, where none may stand.
//
// The run registers, tests, streams, reads alerts and devices, fails (wrong secrets, requests that are not valid, an Entra and an API that
// answer with what they were sent, files that are not valid), updates, rotates secrets, files and the sealing key, stops and starts again.
//
// Searched are: all answers and errors of calls with their details, and every event of every stream; the log at debug level; the metrics'
// page; what the commands serve, validate, rotate-key, healthcheck and version write; what is sent to an OpenTelemetry collector; and every
// file of the data directory. Resume tokens are no secrets: they are positions, and go to the caller. The test prints the list.
//
//nolint:paralleltest // What is in the environment is for all.
func TestNothingOfAFullRunHoldsASecret(t *testing.T) {
	r := newFullRun(t)
	ids := r.begin()
	r.fail()
	r.rotate(ids)
	r.scrape()
	r.stop()
	r.runCommands(ids)
	r.search()
}

func newFullRun(t *testing.T) *fullRun {
	t.Helper()
	lead := map[string]string{}
	proxy, err := defendertest.NewProxy(defendertest.ProxyOptions{Username: proxyUser, Password: proxyPassword, Hosts: lead})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	r := &fullRun{
		proxy: proxy, files: t.TempDir(), program: process.Build(t, t.TempDir()+"/", "defender-integration/cmd/defender-integration"),
		sealing: secrets{by: map[string]string{}},
	}
	t.Setenv(secretVariable, inVariable)
	t.Setenv(passwordVariable, proxyPassword)
	r.configure("none.yaml", "# none yet")
	r.house = newHouse(t, named, func(h *house) {
		h.options.AllowEndpoints = append(h.options.AllowEndpoints, proxy.Addr())
		h.options.SecretVariables = append(h.options.SecretVariables, passwordVariable)
		h.options.Collecting.RetryPermanent = poll // What is mended goes on at once.
		h.options.Integrations, h.options.IntegrationsInterval = r.files, poll
		h.options.Server.MetricsAddress = "127.0.0.1:0"
	})
	lead[loginHost+":443"], lead[apiHost+":443"] = r.address(), r.address()
	for what, secret := range map[string]string{
		"the secret in a file": inFile, "the secret in a variable": inVariable, "the new secret": rotatedSecret, "a wrong secret": wrongSecret,
		"a secret in the configuration": inYAML, "the proxy's password": proxyPassword, "the proxy's credentials": basic(proxyUser, proxyPassword),
	} {
		r.planted.add(what, secret)
	}
	for _, secret := range []string{inFile, inVariable, rotatedSecret} {
		r.app.AddSecret(secret, time.Time{})
	}
	r.plantSealingKey()
	return r
}

// configure writes a file of the configuration, as a whole.
func (r *fullRun) configure(name, content string) {
	temporary := filepath.Join(r.files, ".new")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(temporary, filepath.Join(r.files, name)); err != nil {
		panic(err)
	}
}

// plantSealingKey takes the keys that are in the key file now for secrets: as they stand there, and the key itself.
func (r *fullRun) plantSealingKey() {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(r.data, "sealing.key"))
	if err != nil {
		r.t.Fatal(err)
	}
	var keyset struct {
		Key []struct {
			KeyData struct{ Value string }
		}
	}
	if err := json.Unmarshal(content, &keyset); err != nil || len(keyset.Key) == 0 {
		r.t.Fatalf("%d keys, %v", len(keyset.Key), err)
	}
	for _, key := range keyset.Key {
		raw, err := base64.StdEncoding.DecodeString(key.KeyData.Value)
		const keySize = 32 // AES-256; it ends the message that it stands in
		if err != nil || len(raw) < keySize {
			r.t.Fatalf("a key of %d bytes, %v", len(raw), err)
		}
		r.sealing.add("a sealing key", string(raw[len(raw)-keySize:]))
	}
}

// begin registers integrations over the API and as configuration, and has all of them collect, stream and be tested. It returns their ids.
func (r *fullRun) begin() []string {
	t := r.t
	t.Helper()
	write(t, filepath.Join(r.folder, "secret"), inFile)
	write(t, filepath.Join(r.folder, "federated"), r.federatedToken())
	r.register(r.settings("given", func(i *integrationv1.Integration) {
		i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES, Endpoint: r.host()}
	}))
	r.register(r.settings("certified", func(i *integrationv1.Integration) {
		i.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{Pem: r.certificate()}}
	}))
	r.register(r.settings("proxied", func(i *integrationv1.Integration) {
		byName(i)
		i.Proxy = &integrationv1.Proxy{Url: r.proxy.URL(), Username: proxyUser, Password: proxyPassword}
	}))
	r.configure("kept.yaml", strings.Join([]string{
		r.document("filed", "client_secret: {file: secret}"), r.document("variable", "client_secret: {env_variable: "+secretVariable+"}"),
		r.document("federated", "workload_identity: {token_file: federated}"),
	}, "---\n"))
	r.configure("proxied.yaml", strings.NewReplacer(
		fmt.Sprintf("host: %s, port: %d", r.microsoft.Host(), r.microsoft.Port()), "host: "+apiHost,
		r.microsoft.TokenURL(tenantID), "https://"+loginHost+"/"+tenantID+"/oauth2/v2.0/token",
	).Replace(r.document("proxied-file", "client_secret: {file: secret}"))+
		fmt.Sprintf("proxy: {url: '%s', username: '%s', password_env_variable: %s}\n", r.proxy.URL(), proxyUser, passwordVariable))
	ids := []string{"given", "certified", "proxied", "filed", "variable", "federated", "proxied-file"}
	eventually(t, "the configuration is brought about", func() bool {
		response, err := r.client.ListIntegrations(t.Context(), &integrationv1.ListIntegrationsRequest{})
		return err == nil && len(response.GetIntegrations()) == len(ids)
	})
	for _, id := range ids {
		r.waitCollected(id)
		r.open(r.following(id)).wantAlert("first")
		if test := r.test(id); test.GetHealth() != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
			t.Errorf("%s: the test says %v", id, test)
		}
	}
	return ids
}

// document is an integration of the configuration with a credential.
func (r *fullRun) document(id, credential string) string {
	return fmt.Sprintf(`integration_id: %s
tenant_id: %s
endpoint: {host: %s, port: %d}
authentication:
  client_id: %s
  authorization_url: %s
  %s
device_source: {kind: KIND_NONE}
polling: {fast_interval: 0.1s, slow_interval: 0.1s}
`, id, tenantID, r.microsoft.Host(), r.microsoft.Port(), appID, r.microsoft.TokenURL(tenantID), credential)
}

// fail has everything fail that can show a secret by failing.
func (r *fullRun) fail() {
	t := r.t
	t.Helper()
	// Microsoft's side answers with what it was sent.
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusInternalServerError} {
		r.microsoft.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Times: 2, Respond: echo(status)})
		r.waitPolls(3)
	}
	remove := r.microsoft.Inject(defendertest.Fault{Route: defendertest.RouteToken, Times: -1, Respond: echo(http.StatusBadRequest)})
	r.app.RevokeTokens()
	for _, id := range []string{"given", "certified", "filed", "federated"} {
		r.waitFailing(id)
		r.test(id)
	}
	remove()
	r.update("given", wrongSecret)
	r.waitFailing("given")
	r.test("given")

	// What callers send is wrong.
	for _, change := range []func(*integrationv1.Integration){
		func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "http://user:" + proxyPassword + "@proxy.test"}
		},
		func(i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = "https://user:" + wrongSecret + "@login.test/"
		},
		func(i *integrationv1.Integration) { i.Authentication.Credential = certificateInVariable("PATH") },
		func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{Pem: wrongSecret}}
		},
		func(i *integrationv1.Integration) { i.IntegrationId = "given" },
		func(i *integrationv1.Integration) { i.IntegrationId = "filed" },
	} {
		request := &integrationv1.RegisterIntegrationRequest{Integration: r.settings("refused", change)}
		if _, err := r.client.RegisterIntegration(t.Context(), request); err == nil {
			t.Errorf("%v was registered", request.GetIntegration().GetIntegrationId())
		}
	}
	_, err := r.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
		Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: r.settings("", func(i *integrationv1.Integration) {
			i.Authentication.Credential = secretValue(wrongSecret)
		})},
	})
	if err != nil {
		t.Error(err)
	}

	// So is the configuration.
	r.configure("wrong.yaml", r.document("wrong", "client_secret: {value: "+inYAML+"}"))
	r.waitLog("does not belong here")
	r.configure("wrong.yaml", "integration_id: wrong\nauthentication: *"+inYAML)
	r.waitLog("no YAML")
	r.configure("wrong.yaml", "# mended")
	r.waitLog("the files of the configuration are valid")
}

// echo answers with all that was sent: the line, the headers, the form.
func echo(status int) defendertest.Responder {
	return func(_ context.Context, r *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
		_ = r.ParseForm() // Without a form there is none to tell.
		said := fmt.Sprint(r.URL, " ", r.Header, " ", r.Form)
		body, _ := json.Marshal(map[string]any{ // Texts always marshal.
			"error": said, "error_description": "AADSTS9999: " + said, "message": said,
		})
		return defendertest.NewAnswer(status, string(body))
	}
}

// waitLog waits until the log has a text.
func (r *fullRun) waitLog(text string) {
	r.t.Helper()
	eventually(r.t, "the log says "+text, func() bool { return bytes.Contains(r.log.bytes(), []byte(text)) })
}

func (r *fullRun) update(id, secret string) {
	r.t.Helper()
	_, err := r.client.UpdateIntegration(r.t.Context(), &integrationv1.UpdateIntegrationRequest{
		Integration: &integrationv1.Integration{
			IntegrationId: id, Authentication: &integrationv1.Authentication{Credential: secretValue(secret)},
		},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"authentication.client_secret.value"}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// rotate has new secrets in the place of those before, and all go on with them.
func (r *fullRun) rotate(ids []string) {
	r.t.Helper()
	r.update("given", rotatedSecret)
	r.update("proxied", rotatedSecret)
	write(r.t, filepath.Join(r.folder, "secret"), rotatedSecret)
	write(r.t, filepath.Join(r.folder, "federated"), r.federatedToken())
	r.app.RemoveSecret(inFile)
	r.app.RemoveSecret(r.secret)
	r.app.RevokeTokens()
	r.raise("second")
	for _, id := range ids {
		s := r.open(r.following(id))
		s.wantAlert("first")
		s.wantAlert("second")
	}
}

// scrape reads the metrics.
func (r *fullRun) scrape() {
	r.t.Helper()
	r.add("the metrics", r.fetch("http://"+r.metrics+"/metrics"))
}

func (r *fullRun) fetch(address string) []byte {
	r.t.Helper()
	response, err := http.Get(address)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		r.t.Fatalf("%s is answered %s, %v", address, response.Status, err)
	}
	return content
}

func (r *fullRun) add(name string, content []byte) {
	r.artefacts = append(r.artefacts, artefact{name, content})
}

// runCommands runs the program's commands on what the service left.
func (r *fullRun) runCommands(ids []string) {
	t := r.t
	t.Helper()
	common := []string{"--integrations", r.files, "--secrets-dir", r.folder, "--allow-http", "--trusted-ca-file", r.options.TrustedCAFile}
	for _, name := range r.options.SecretVariables {
		common = append(common, "--secret-env", name)
	}
	for _, endpoint := range r.options.AllowEndpoints {
		common = append(common, "--allow-endpoint", endpoint)
	}
	r.command(true, append([]string{"validate"}, common...)...)
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	write(t, wrong, r.document("wrong", "client_secret: {value: "+inYAML+"}"))
	r.command(false, append(append([]string{"validate"}, common...), "--integrations", wrong)...)
	r.command(true, "rotate-key", "--data-dir", r.data, "--log-level", "debug")
	r.plantSealingKey()
	r.command(true, "version")
	r.serveAgain(ids, common)
}

// command runs a command to its end and keeps what it wrote.
func (r *fullRun) command(succeeds bool, args ...string) {
	r.t.Helper()
	p := process.Start(r.t, process.Command{Path: r.program, Args: args})
	select {
	case <-p.Done():
	case <-time.After(patience):
		r.t.Fatalf("%s does not end", args[0])
	}
	if (p.Err() == nil) != succeeds || p.Output() == "" {
		r.t.Errorf("%v ended with %v:\n%s", args, p.Err(), p.Output())
	}
	r.add("the output of "+args[0], []byte(p.Output()))
}

// listening is how the service says where.
var listening = regexp.MustCompile(`"msg":"(listening|serving metrics)".*"address":"([^"]+)"`)

// serveAgain has the program itself serve what the service left, with debug lines and traces, and asks it for everything once more.
func (r *fullRun) serveAgain(ids, flags []string) {
	t := r.t
	t.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		content, _ := io.ReadAll(request.Body) // What came of it is what is searched.
		_, _ = fmt.Fprintf(&r.traces, "%s %v\n%s\n", request.URL, request.Header, content)
		w.WriteHeader(http.StatusOK)
	}))
	defer collector.Close()
	p := process.Start(t, process.Command{
		Path: r.program,
		Args: append([]string{
			"serve", "--data-dir", r.data, "--listen", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0", "--log-level", "debug",
			"--poll-fast", "1s", "--budget", "graph-alerts=100000/1m", "--budget", "defender-for-endpoint=100000/1m",
			"--budget", "hunting=100000/1m", "--budget", "telemetry=100000/1m",
		}, flags...),
		Env: []string{
			"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL,
			"OTEL_BSP_SCHEDULE_DELAY=100",
		},
	})
	output := p.WaitFor(t, "it serves", func(output string) bool { return strings.Contains(output, `"msg":"ready"`) })
	addresses := map[string]string{}
	for _, found := range listening.FindAllStringSubmatch(output, -1) {
		addresses[found[1]] = found[2]
	}
	r.command(true, "healthcheck", "--listen", addresses["listening"])
	r.command(false, "healthcheck", "--listen", "127.0.0.1:1")
	conn, err := grpc.NewClient("passthrough:///"+addresses["listening"], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(r.hearCall), grpc.WithStreamInterceptor(r.hearStream))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r.client = integrationv1.NewIntegrationServiceClient(conn)
	for _, id := range ids {
		r.open(r.following(id)).wantAlert("first")
		if test := r.test(id); test.GetHealth() != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
			t.Errorf("%s: the test says %v", id, test)
		}
	}
	r.add("the metrics of the program", r.fetch("http://"+addresses["serving metrics"]+"/metrics"))
	p.Stop(t)
	r.add("the output of serve", []byte(p.Output()))
	// What the program had not sent yet is sent before it ends. A run that traced nothing would have been searched for nothing.
	for _, span := range []string{"IntegrationService/StreamAlerts", "IntegrationService/TestConnectivity", "ask for a token", "call "} {
		if !bytes.Contains(r.traces.bytes(), []byte(span)) {
			t.Errorf("no trace of %q came, in %d bytes", span, len(r.traces.bytes()))
		}
	}
}

// search searches all that the run left, and prints what that was.
func (r *fullRun) search() {
	t := r.t
	t.Helper()
	r.add("the log, at debug level", r.log.bytes())
	r.add("answers, errors and events", r.answers.bytes())
	r.add("traces", r.traces.bytes())
	for _, a := range r.artefacts {
		r.sealing.wantNone(t, a.name, a.content)
	}
	err := filepath.WalkDir(r.data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, r.data+"/")
		if name != "sealing.key" {
			r.sealing.wantNone(t, "the file "+name, content)
		}
		r.add(kindOf(name), content)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, a := range r.artefacts {
		r.planted.wantNone(t, a.name, a.content)
	}
	t.Log(r.listed())
}

// kindOf names a file of the data directory by what it is one of.
func kindOf(name string) string {
	_, stream, _ := strings.Cut(name, "/streams/")
	stream, _, _ = strings.Cut(stream, "/")
	switch {
	case stream == "":
		return "the file " + name
	case strings.Contains(stream, "-journal-"):
		return "the files of the journals"
	default:
		return "the files of " + stream
	}
}

// listed is the list of what was searched, and of what it was searched for.
func (r *fullRun) listed() string {
	type total struct{ files, bytes int }
	totals := map[string]total{}
	for _, a := range r.artefacts {
		totals[a.name] = total{totals[a.name].files + 1, totals[a.name].bytes + len(a.content)}
	}
	kinds := map[string]int{}
	for _, set := range []*secrets{&r.planted, &r.sealing} {
		for _, what := range set.by {
			kinds[what]++
		}
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(table, "\nsearched\tpieces\tbytes\n")
	for _, name := range sortedKeys(totals) {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\n", name, totals[name].files, totals[name].bytes)
	}
	_, _ = fmt.Fprint(table, "\nsearched for\thow many\t\n")
	for _, what := range sortedKeys(kinds) {
		_, _ = fmt.Fprintf(table, "%s\t%d\t\n", what, kinds[what])
	}
	_ = table.Flush() // It writes into memory.
	return text.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, cmp.Compare[string])
	return keys
}
