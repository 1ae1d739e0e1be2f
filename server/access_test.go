package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// policy is the policy of the tests over mutual TLS. UID stands for the user that the tests run as.
const policy = `
rules:
  - identities: [dns:admin.example.org]
    roles: [reader, operator]
    integrations: ["*"]
  - identities: [spiffe://example.org/director/*, uid:UID]
    roles: [reader]
    integrations: [contoso]
  - identities: [dns:operator.example.org]
    roles: [operator]
    integrations: [contoso]
  - identities: [dns:elsewhere.example.org]
    roles: [reader, operator]
    integrations: [fabrikam]
`

// writePolicy writes a policy file.
func writePolicy(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	replace(t, path, text)
	return path
}

// replace replaces a policy file at once, as an operator's tools do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "UID", fmt.Sprint(os.Getuid()))
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// spiffe returns the template of a certificate with a SPIFFE id.
func spiffe(id string) *x509.Certificate {
	return &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: id}}, DNSNames: []string{"admin.example.org"}}
}

// dns returns the template of a certificate with DNS names.
func dns(names ...string) *x509.Certificate { return &x509.Certificate{DNSNames: names} }

// lasting changes when a template's certificate is valid, from now.
func lasting(template *x509.Certificate, from, until time.Duration) *x509.Certificate {
	template.NotBefore, template.NotAfter = time.Now().Add(from), time.Now().Add(until)
	return template
}

// rpc is a call of a table.
type rpc struct {
	// method is its short name, integration the one that its request names.
	method, integration string
	// role is what an error says that it needs.
	role string
	// audited calls leave a line of audit however they end.
	audited bool
	// code is what it ends with where it is allowed.
	code codes.Code
	make func(ctx context.Context, conn *grpc.ClientConn) error
}

// service makes a call of the service's.
func service(call func(ctx context.Context, client integrationv1.IntegrationServiceClient) error) func(context.Context, *grpc.ClientConn) error {
	return func(ctx context.Context, conn *grpc.ClientConn) error {
		return call(ctx, integrationv1.NewIntegrationServiceClient(conn))
	}
}

func register(id string, code codes.Code) rpc {
	return rpc{"RegisterIntegration", id, "operator", true, code, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.RegisterIntegration(ctx, &integrationv1.RegisterIntegrationRequest{Integration: named(id)})
			return err
		})}
}

func get(id string, code codes.Code) rpc {
	return rpc{"GetIntegration", id, "reader or operator", false, code, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.GetIntegration(ctx, &integrationv1.GetIntegrationRequest{IntegrationId: id})
			return err
		})}
}

func list() rpc {
	return rpc{"ListIntegrations", "", "reader or operator", false, codes.OK, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.ListIntegrations(ctx, &integrationv1.ListIntegrationsRequest{})
			return err
		})}
}

func update(id string, code codes.Code) rpc {
	return rpc{"UpdateIntegration", id, "operator", true, code, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.UpdateIntegration(ctx, &integrationv1.UpdateIntegrationRequest{
				Integration:  &integrationv1.Integration{IntegrationId: id, DisplayName: "Another"},
				UpdateMask:   &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
				ValidateOnly: true,
			})
			return err
		})}
}

// remove deletes an integration that has changed meanwhile, which is refused of one that is there.
func remove(id string, code codes.Code) rpc {
	return rpc{"DeleteIntegration", id, "operator", true, code, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.DeleteIntegration(ctx, &integrationv1.DeleteIntegrationRequest{IntegrationId: id, Etag: "another"})
			return err
		})}
}

func endpoints() rpc {
	return rpc{"ListEndpoints", "", "reader or operator", false, codes.OK, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.ListEndpoints(ctx, &integrationv1.ListEndpointsRequest{})
			return err
		})}
}

func try(id string, code codes.Code) rpc {
	return rpc{"TestConnectivity", id, "operator", true, code, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.TestConnectivity(ctx, &integrationv1.TestConnectivityRequest{
				Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: id},
			})
			return err
		})}
}

// tryUnsaved tests settings that are not saved.
func tryUnsaved(id string) rpc {
	return rpc{"TestConnectivity", id, "operator", true, codes.OK, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			_, err := client.TestConnectivity(ctx, &integrationv1.TestConnectivityRequest{
				Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: named(id)},
			})
			return err
		})}
}

func streamOf(id string) rpc {
	return rpc{"StreamAlerts", id, "reader", true, codes.OK, service(
		func(ctx context.Context, client integrationv1.IntegrationServiceClient) error {
			return received(client.StreamAlerts(ctx, &integrationv1.StreamAlertsRequest{IntegrationId: id}))
		})}
}

func healthCheck() rpc {
	return rpc{"Check", "", "", false, codes.OK, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: server.LivenessService})
		return err
	}}
}

func healthList() rpc {
	return rpc{"List", "", "", false, codes.OK, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := healthv1.NewHealthClient(conn).List(ctx, &healthv1.HealthListRequest{})
		return err
	}}
}

func healthWatch() rpc {
	return rpc{"Watch", "", "", false, codes.OK, func(ctx context.Context, conn *grpc.ClientConn) error {
		return received(healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{Service: server.LivenessService}))
	}}
}

func describe(code codes.Code) rpc {
	return rpc{"ServerReflectionInfo", "", "", false, code, func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		// That it cannot be sent is told by what is received.
		_ = stream.Send(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
		})
		return received(stream, err)
	}}
}

func unknown() rpc {
	return rpc{"Nothing", "", "", false, codes.Unimplemented, func(ctx context.Context, conn *grpc.ClientConn) error {
		return conn.Invoke(ctx, "/defender.integration.v1.IntegrationService/Nothing",
			&integrationv1.GetIntegrationRequest{}, &integrationv1.GetIntegrationResponse{})
	}}
}

// received receives the first message of a stream, or its end; err is why there is no stream.
func received[M any](stream interface{ Recv() (*M, error) }, err error) error {
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// named are valid settings under an id, in which everything else is the same.
func named(id string) *integrationv1.Integration {
	return contoso(func(i *integrationv1.Integration) { i.IntegrationId = id })
}

// visitor is a caller of a table.
type visitor struct {
	// name is its column's, identity what it is called in the log and in errors.
	name, identity string
	target         string
	security       credentials.TransportCredentials
}

// playTable makes each call by each visitor: the columns say what comes of it.
//
//	ok       it is let in
//	no       PERMISSION_DENIED with CALLER_NOT_ALLOWED
//	-        the connection is refused at its handshake, and there is no call
func playTable(t *testing.T, h *harness, visitors []visitor, rows []row) {
	t.Helper()
	for column, who := range visitors {
		t.Run(strings.ReplaceAll(who.name, " ", "_"), func(t *testing.T) {
			conn, err := grpc.NewClient(who.target, grpc.WithTransportCredentials(who.security))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			for n, row := range rows {
				want := strings.Fields(row.want)
				if len(want) != len(visitors) {
					t.Fatalf("row %d has %d columns", n, len(want))
				}
				id := fmt.Sprintf("%s-%d", strings.ReplaceAll(who.name, " ", "-"), n)
				ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-request-id", id), 20*time.Second)
				wantOutcome(t, h, who, row.rpc, want[column], id, row.make(ctx, conn))
				cancel()
			}
		})
	}
}

// row is a call of a table, and what comes of it for each visitor.
type row struct {
	rpc
	want string
}

func wantOutcome(t *testing.T, h *harness, who visitor, call rpc, want, id string, err error) {
	t.Helper()
	what := fmt.Sprintf("%s of %q", call.method, call.integration)
	audit := h.log.lines(`"msg":"audit"`, `"request_id":"`+id+`"`)
	code := status.Code(err)
	switch want {
	case "ok":
		if code != call.code {
			t.Errorf("%s: %v, want %s", what, err, call.code)
		}
		if (len(audit) == 1) != call.audited {
			t.Errorf("%s: the lines of audit are %q", what, audit)
		}
	case "no":
		if code != codes.PermissionDenied {
			t.Errorf("%s: %v, want that it is denied", what, err)
			return
		}
		info := wantFailure(t, err, codes.PermissionDenied, integrationv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED, who.identity, call.method)
		got := info.GetMetadata()
		if got["caller"] != who.identity || got["method"] != call.method || got["role"] != call.role || got["integration_id"] != call.integration {
			t.Errorf("%s: the metadata are %v", what, got)
		}
	case "-":
		if code != codes.Unavailable {
			t.Errorf("%s: %v, want that the connection is refused", what, err)
		}
		if lines := h.log.lines(`"request_id":"` + id + `"`); len(lines) > 0 {
			t.Errorf("%s: it reached the service: %s", what, lines)
		}
	}
	if want == "ok" && !call.audited || want == "-" {
		return
	}
	words := []string{`"caller":"` + who.identity + `"`, `"method":"` + call.method + `"`, `"code":"` + code.String() + `"`}
	if call.integration != "" {
		words = append(words, `"integration_id":"`+call.integration+`"`)
	}
	if want == "no" {
		words = append(words, `"reason":"ERROR_REASON_CALLER_NOT_ALLOWED"`)
	}
	if lines := h.log.lines(append(words, `"msg":"audit"`, `"request_id":"`+id+`"`)...); len(lines) != 1 || len(audit) != 1 {
		t.Errorf("%s: the lines of audit are %q, want one with %q", what, audit, words)
	}
}

// prepare registers integrations over a connection that may, and lets streams end at once.
func (h *harness) prepare(t *testing.T, conn *grpc.ClientConn, ids ...string) {
	t.Helper()
	h.streams.run = func(context.Context, *integrationv1.StreamAlertsRequest, send) error { return nil }
	for _, id := range ids {
		if err := register(id, codes.OK).make(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
}

// presenting are the credentials of a client that trusts the authority and shows a certificate, whatever authorities the server names;
// none where it is empty.
func (a *authority) presenting(certificate tls.Certificate) credentials.TransportCredentials {
	config := a.trusting()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	return credentials.NewTLS(config)
}

// Who may call what over mutual TLS and over the unix socket, where a policy says so. contoso and fabrikam are registered, nowhere is not.
func TestWhoMayCallWhat(t *testing.T) {
	ca, wrong := newAuthority(t, "ca"), newAuthority(t, "wrong")
	cert, key := ca.server(t)
	socket := filepath.Join(t.TempDir(), "s")
	s, h := start(t, server.Options{
		Address: "127.0.0.1:0", UnixSocket: socket, TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file},
		PolicyFile: writePolicy(t, policy),
	})
	shows := func(name, identity string, certificate tls.Certificate) visitor {
		return visitor{name, identity, tcp(s), ca.presenting(certificate)}
	}
	admin := shows("admin", "dns:admin.example.org", ca.pair(t, "admin", dns("other.example.org", "ADMIN.example.org")))
	admin.identity = "dns:other.example.org" // The first of its names; the second is the one that the policy names.
	conn := dialed(t, admin.target, admin.security)
	h.prepare(t, conn, "contoso", "fabrikam")

	expired := lasting(dns("admin.example.org"), -time.Hour, -time.Minute)
	future := lasting(dns("admin.example.org"), time.Hour, 2*time.Hour)
	playTable(t, h, []visitor{
		admin,
		shows("reader", "spiffe://example.org/director/7", ca.pair(t, "reader", spiffe("/director/7"))),
		shows("operator", "dns:operator.example.org", ca.pair(t, "operator", dns("operator.example.org"))),
		shows("elsewhere", "dns:elsewhere.example.org", ca.pair(t, "elsewhere", dns("elsewhere.example.org"))),
		shows("stranger", "spiffe://example.org/directory/7", ca.pair(t, "stranger", spiffe("/directory/7"))),
		shows("nameless", "x509:CN=admin.example.org", ca.pair(t, "admin.example.org", dns("*.example.org"))),
		{"user", fmt.Sprintf("uid:%d", os.Getuid()), "unix://" + socket, insecure.NewCredentials()},
		shows("no certificate", "", tls.Certificate{}),
		shows("wrong CA", "", wrong.pair(t, "wrong", dns("admin.example.org"))),
		shows("expired", "", ca.pair(t, "expired", expired)),
		shows("not yet valid", "", ca.pair(t, "future", future)),
	}, []row{
		//                                           admin reader operator elsewhere stranger nameless user   none wrong expired future
		{register("contoso", codes.OK), "               ok    no     ok       no        no       no       no     -    -     -       -"},
		{register("fabrikam", codes.OK), "              ok    no     no       ok        no       no       no     -    -     -       -"},
		{register("", codes.InvalidArgument), "         ok    no     no       no        no       no       no     -    -     -       -"},
		{get("contoso", codes.OK), "                    ok    ok     ok       no        no       no       ok     -    -     -       -"},
		{get("fabrikam", codes.OK), "                   ok    no     no       ok        no       no       no     -    -     -       -"},
		{get("nowhere", codes.NotFound), "              ok    no     no       no        no       no       no     -    -     -       -"},
		{list(), "                                      ok    ok     ok       ok        no       no       ok     -    -     -       -"},
		{update("contoso", codes.OK), "                 ok    no     ok       no        no       no       no     -    -     -       -"},
		{update("fabrikam", codes.OK), "                ok    no     no       ok        no       no       no     -    -     -       -"},
		{update("nowhere", codes.NotFound), "           ok    no     no       no        no       no       no     -    -     -       -"},
		{remove("contoso", codes.Aborted), "            ok    no     ok       no        no       no       no     -    -     -       -"},
		{remove("fabrikam", codes.Aborted), "           ok    no     no       ok        no       no       no     -    -     -       -"},
		{remove("nowhere", codes.NotFound), "           ok    no     no       no        no       no       no     -    -     -       -"},
		{endpoints(), "                                 ok    ok     ok       ok        no       no       ok     -    -     -       -"},
		{try("contoso", codes.OK), "                    ok    no     ok       no        no       no       no     -    -     -       -"},
		{try("fabrikam", codes.OK), "                   ok    no     no       ok        no       no       no     -    -     -       -"},
		{try("nowhere", codes.NotFound), "              ok    no     no       no        no       no       no     -    -     -       -"},
		{tryUnsaved("contoso"), "                       ok    no     ok       no        no       no       no     -    -     -       -"},
		{tryUnsaved("fabrikam"), "                      ok    no     no       ok        no       no       no     -    -     -       -"},
		{tryUnsaved(""), "                              ok    no     no       no        no       no       no     -    -     -       -"},
		{streamOf("contoso"), "                           ok    ok     no       no        no       no       ok     -    -     -       -"},
		{streamOf("fabrikam"), "                          ok    no     no       ok        no       no       no     -    -     -       -"},
		{streamOf("nowhere"), "                           ok    no     no       no        no       no       no     -    -     -       -"},
		{healthCheck(), "                               ok    ok     ok       ok        ok       ok       ok     -    -     -       -"},
		{healthList(), "                                ok    ok     ok       ok        ok       ok       ok     -    -     -       -"},
		{healthWatch(), "                               ok    ok     ok       ok        ok       ok       ok     -    -     -       -"},
		{describe(codes.OK), "                          ok    ok     ok       ok        ok       ok       ok     -    -     -       -"},
		{unknown(), "                                   ok    ok     ok       ok        ok       ok       ok     -    -     -       -"},
	})
	for cause, words := range map[string][]string{
		"no certificate": {"didn't provide a certificate"},
		"wrong CA":       {"certificate signed by unknown authority", `"claims":"dns:admin.example.org"`},
		"expired":        {"certificate has expired or is not yet valid", " is after ", `"claims":"dns:admin.example.org"`},
		"not yet valid":  {"certificate has expired or is not yet valid", " is before ", `"claims":"dns:admin.example.org"`},
	} {
		// The caller is told first.
		eventually(t, fmt.Sprintf("%s: a line of the log has %q", cause, words), func() bool {
			return len(h.log.lines(append(words, `"audit: a connection was refused at its TLS handshake"`, `"peer":"127.0.0.1:`)...)) > 0
		})
	}
	if n := h.counter(t, "defender_integration_tls_handshakes_refused_total", nil); n < 4 {
		t.Errorf("%v refused handshakes are counted", n)
	}
}

// dialed makes a connection for the length of the test.
func dialed(t *testing.T, target string, security credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(security))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// everyMethod are calls of every method, with what comes of them in the same columns for all that need a role for contoso, in the
// order: operator's, reader's, either's, anyone's.
func everyMethod(operator, reader, either string) []row {
	anyone := strings.Repeat("ok ", len(strings.Fields(operator)))
	return []row{
		{register("contoso", codes.OK), operator},
		{get("contoso", codes.OK), either},
		{list(), either},
		{update("contoso", codes.OK), operator},
		{remove("contoso", codes.Aborted), operator},
		{endpoints(), either},
		{try("contoso", codes.OK), operator},
		{tryUnsaved("contoso"), operator},
		{streamOf("contoso"), reader},
		{healthCheck(), anyone}, {healthList(), anyone}, {healthWatch(), anyone}, {describe(codes.OK), anyone}, {unknown(), anyone},
	}
}

// On this machine a policy counts as well. A group is an identity beside the user.
func TestWhoOnThisMachineMayCallWhatByAPolicy(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	s, h := start(t, server.Options{Address: "127.0.0.1:0", UnixSocket: socket, PolicyFile: writePolicy(t, fmt.Sprintf(`
rules:
  - {identities: [local:bufconn], roles: [operator], integrations: ["*"]}
  - {identities: [local:tcp], roles: [reader], integrations: ["*"]}
  - {identities: ["gid:%d"], roles: [operator], integrations: [contoso]}
`, os.Getgid()))})
	h.prepare(t, h.conn, "contoso", "fabrikam")
	playTable(t, h, []visitor{
		{"loopback", "local:tcp", tcp(s), insecure.NewCredentials()},
		{"user", fmt.Sprintf("uid:%d", os.Getuid()), "unix://" + socket, insecure.NewCredentials()},
	}, append(everyMethod("no ok", "ok no", "ok ok"),
		row{get("fabrikam", codes.OK), "ok no"}, row{tryUnsaved(""), "no no"},
	))
}

// Without a policy the callers of this machine may do all, with whatever they prove who they are.
func TestWhoMayCallWhatWithoutAPolicy(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	socket := filepath.Join(t.TempDir(), "s")
	inClear, h := start(t, server.Options{Address: "127.0.0.1:0"})
	h.prepare(t, h.conn, "contoso", "fabrikam")
	all := func(t *testing.T, h *harness, who ...visitor) {
		t.Helper()
		ok := strings.Repeat("ok ", len(who))
		playTable(t, h, who, append(everyMethod(ok, ok, ok), row{tryUnsaved(""), ok}))
	}
	all(t, h, visitor{"loopback in clear", "local:tcp", tcp(inClear), insecure.NewCredentials()})

	secured, h := start(t, server.Options{
		Address: "127.0.0.1:0", UnixSocket: socket, TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file},
	})
	h.prepare(t, h.conn, "contoso", "fabrikam")
	all(t, h,
		visitor{"certificate", "dns:director", tcp(secured), credentials.NewTLS(ca.trusting(ca.client(t)))},
		visitor{"user", fmt.Sprintf("uid:%d", os.Getuid()), "unix://" + socket, insecure.NewCredentials()})

	open, h := start(t, server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: key}})
	h.prepare(t, h.conn, "contoso", "fabrikam")
	all(t, h, visitor{"loopback over TLS", "local:tcp", tcp(open), credentials.NewTLS(ca.trusting())})
}

func TestReflectionCanBeSwitchedOff(t *testing.T) {
	s, h := start(t, server.Options{Address: "127.0.0.1:0", NoReflection: true})
	playTable(t, h, []visitor{{"loopback", "local:tcp", tcp(s), insecure.NewCredentials()}}, []row{
		{describe(codes.Unimplemented), "ok"}, {healthCheck(), "ok"}, {endpoints(), "ok"},
	})
}

// An id that is not the caller's is refused alike, whether there is such an integration or not.
func TestARefusalDoesNotTellWhatThereIs(t *testing.T) {
	s, h := start(t, server.Options{Address: "127.0.0.1:0", PolicyFile: writePolicy(t, `
rules:
  - {identities: [local:bufconn], roles: [operator], integrations: [there]}
  - {identities: [local:tcp], roles: [reader, operator], integrations: [contoso]}
`)})
	h.prepare(t, h.conn, "there")
	conn := dialed(t, tcp(s), insecure.NewCredentials())
	refusal := func(call rpc) string {
		st := status.Convert(call.make(t.Context(), conn))
		return strings.ReplaceAll(fmt.Sprint(st.Code(), st.Message(), st.Details()), call.integration, "ID")
	}
	for name, pair := range map[string][2]rpc{
		"register": {register("there", codes.OK), register("where", codes.OK)},
		"get":      {get("there", codes.OK), get("where", codes.OK)},
		"update":   {update("there", codes.OK), update("where", codes.OK)},
		"delete":   {remove("there", codes.OK), remove("where", codes.OK)},
		"test":     {try("there", codes.OK), try("where", codes.OK)},
		"stream":   {streamOf("there"), streamOf("where")},
	} {
		if a, b := refusal(pair[0]), refusal(pair[1]); a != b || !strings.HasPrefix(a, "PermissionDenied") {
			t.Errorf("%s is refused differently:\n%s\n%s", name, a, b)
		}
	}
}
