package connectivitytest_test

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// setUp is a row of the tables: one set-up, and what the connectivity test must make of it.
type setUp struct {
	// name is that of the golden file.
	name string
	// is tells the set-up in a sentence, for the head of the golden file.
	is string
	// change makes it, of a healthy one; nil leaves that as it is.
	change func(*world)
	// before is how often it is tested before it counts.
	before int
	want
}

// want is what is expected of an answer.
type want struct {
	// fails is the stage that fails, such as "TOKEN API"; empty where none does. The stages that are skipped for a failure must all
	// name it.
	fails string
	// seen and remedy are parts of what the stage says, reason and code are all of what it has of them. Where nothing fails, they are of
	// the first of warns.
	seen, remedy string
	reason       integrationv1.ErrorReason
	code         string
	// alsoFails are stages that fail besides, each for a cause of its own: the row says which.
	alsoFails []string
	// warns are the stages that warn, without lifecycleWarning where the default device source is used.
	warns []string
}

// lifecycleWarning is the stage that warns wherever Defender for Endpoint's list of machines is the device source, since Microsoft
// retires it.
const lifecycleWarning = "LIFECYCLE DEVICE_SOURCE"

// telemetry is the stage of telemetry.
const telemetry = "TELEMETRY API"

// The reasons, with shorter names for the tables.
const (
	unreachable   = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE
	untrusted     = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED
	notAuthentic  = integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED
	noPermission  = integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING
	mayWrite      = integrationv1.ErrorReason_ERROR_REASON_PERMISSION_EXCESSIVE
	throttled     = integrationv1.ErrorReason_ERROR_REASON_THROTTLED
	budgetSpent   = integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT
	upstreamFails = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED
	refused       = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED
	invalidAnswer = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
	misconfigured = integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID
	retiring      = integrationv1.ErrorReason_ERROR_REASON_API_RETIRING
	retired       = integrationv1.ErrorReason_ERROR_REASON_API_RETIRED
	clockSkew     = integrationv1.ErrorReason_ERROR_REASON_CLOCK_SKEW
	unusable      = integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE
	proxyFailed   = integrationv1.ErrorReason_ERROR_REASON_PROXY_FAILED
	forbiddenAddr = integrationv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_ALLOWED
)

// patience is how long a test may take.
const patience = time.Minute

// setUps are all rows that one service is tested with.
func setUps() []setUp {
	return slices.Concat(healthySetUps(), brokenLinks(), brokenProxies(), brokenCredentials(), brokenTokens(), brokenRoles(), brokenReads())
}

func TestConnectivity(t *testing.T) {
	// A proxy of this machine's environment, or an identity of it, is none of the tests'.
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "AZURE_FEDERATED_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	machine, err := defendertest.New(defendertest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = machine.Close() })
	t.Setenv("IDENTITY_ENDPOINT", machine.IdentityEndpoint())
	t.Setenv("IDENTITY_HEADER", defendertest.IdentityHeader)
	runSetUps(t, setUps(), machine)
}

// runSetUps makes the worlds of set-ups, starts a service for all of them, and tests each. machine is the simulated Microsoft of the
// managed identities; nil where there is none.
func runSetUps(t *testing.T, rows []setUp, machine *defendertest.Server) {
	t.Helper()
	secretsDir := t.TempDir()
	worlds := make([]*world, len(rows))
	for i, row := range rows {
		worlds[i] = newWorld(t, row.name, i, secretsDir)
		worlds[i].machine = machine
		if row.change != nil {
			row.change(worlds[i])
		}
	}
	client := serve(t, secretsDir, worlds...)
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			request := &integrationv1.TestConnectivityRequest{
				Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: worlds[i].integration()},
			}
			for range row.before {
				if _, err := client.TestConnectivity(ctx, request); err != nil {
					t.Fatal(err)
				}
			}
			response, err := client.TestConnectivity(ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			row.check(t, response.GetTest(), worlds[i])
			golden(t, row.name, worlds[i].written(row.is, response.GetTest()))
		})
	}
}

// check compares an answer with what is expected of it.
func (want want) check(t *testing.T, test *integrationv1.ConnectivityTest, w *world) {
	t.Helper()
	fails, warns := want.alsoFails, slices.Clone(want.warns)
	health := integrationv1.ConnectivityTest_HEALTH_HEALTHY
	if want.fails != "" {
		fails, health = append([]string{want.fails}, fails...), integrationv1.ConnectivityTest_HEALTH_UNHEALTHY
	}
	// Where no connection can be made of the settings, that is the one stage that there is.
	if w.looksUpMachines() && want.fails != "CONFIGURATION" {
		warns = append(warns, lifecycleWarning)
	}
	if test.GetHealth() != health || test.GetTestTime() == nil || test.GetTook().AsDuration() <= 0 {
		t.Errorf("it is %s, began at %v and took %v; want it to be %s", test.GetHealth(), test.GetTestTime(), test.GetTook(), health)
	}

	var failed, warned []string
	for _, s := range test.GetStages() {
		name := nameOf(s.GetLink(), s.GetTarget())
		switch s.GetResult() {
		case integrationv1.ConnectivityStage_RESULT_FAILED:
			failed = append(failed, name)
		case integrationv1.ConnectivityStage_RESULT_WARNED:
			warned = append(warned, name)
		case integrationv1.ConnectivityStage_RESULT_SKIPPED:
			if cause := causeOf(s); cause != "" && !slices.Contains(fails, cause) {
				t.Errorf("%s is skipped for %s, which is not what is broken", name, cause)
			}
			if s.GetTook() != nil && s.GetCause() == nil {
				t.Errorf("%s is left out and took %v", name, s.GetTook())
			}
		case integrationv1.ConnectivityStage_RESULT_PASSED:
			if s.GetReason() != 0 || s.GetRemedy() != "" {
				t.Errorf("%s passed, with a reason or a remedy: %v", name, s)
			}
		}
		if s.GetSeen() == "" {
			t.Errorf("%s does not say what was seen", name)
		}
		if name == cmp.Or(want.fails, cmp.Or(want.warns...)) {
			want.checkStage(t, s)
		}
	}
	if strings.Join(failed, ", ") != strings.Join(fails, ", ") {
		t.Errorf("what fails is [%s], want [%s]", strings.Join(failed, ", "), strings.Join(fails, ", "))
	}
	if strings.Join(warned, ", ") != strings.Join(warns, ", ") {
		t.Errorf("what warns is [%s], want [%s]", strings.Join(warned, ", "), strings.Join(warns, ", "))
	}
	if !strings.Contains(test.GetSummary(), want.seen) && want.fails != "" || !strings.Contains(test.GetSummary(), want.remedy) && want.fails != "" {
		t.Errorf("the summary is %q, want %q and %q in it", test.GetSummary(), want.seen, want.remedy)
	}
	if text := prototext.Format(test); strings.Contains(text, plantedSecret) || strings.Contains(text, plantedPassword) {
		t.Errorf("a secret is in the answer: %s", text)
	}
}

// checkStage compares the one stage that is told about.
func (want want) checkStage(t *testing.T, s *integrationv1.ConnectivityStage) {
	t.Helper()
	if !strings.Contains(s.GetSeen(), want.seen) || !strings.Contains(s.GetRemedy(), want.remedy) || s.GetRemedy() == "" ||
		s.GetReason() != want.reason || s.GetUpstreamCode() != want.code {
		t.Errorf("it says\n%q\nremedy %q\n%s %s\nwant\n%q\nremedy %q\n%s %s", s.GetSeen(), s.GetRemedy(), s.GetReason(), s.GetUpstreamCode(),
			want.seen, want.remedy, want.reason, want.code)
	}
}

// Each golden file belongs to a row, and no two rows share one.
func TestEachGoldenFileHasItsRow(t *testing.T) {
	if *update {
		t.Skip("the golden files are written anew by this run")
	}
	names := []string{registeredName}
	for _, row := range slices.Concat(setUps(), environmentSetUps()) {
		names = append(names, row.name)
	}
	for _, row := range refusals() {
		names = append(names, row.name)
	}
	slices.Sort(names)
	files, err := filepath.Glob(filepath.Join("testdata", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(filepath.Base(file), ".golden")
	}
	slices.Sort(files)
	if !slices.Equal(names, files) {
		t.Errorf("there are golden files %q\nof rows %q", files, names)
	}
}
