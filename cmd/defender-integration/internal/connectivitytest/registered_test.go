package connectivitytest_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// registeredName is the golden file's.
const registeredName = "registered-secret-wrong"

// What is registered is tested as it is stored, its answer is kept, and the next test, of what was mended, takes its place.
func TestConnectivityOfWhatIsRegistered(t *testing.T) {
	w := newWorld(t, registeredName, 0, t.TempDir())
	client := serve(t, w.secretsDir, w)
	w.setSecret("88888888-0000-4000-8000-000000000000")
	settings := proto.CloneOf(w.integration())
	settings.IntegrationId = "contoso"
	if _, err := client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: settings}); err != nil {
		t.Fatal(err)
	}
	request := &integrationv1.TestConnectivityRequest{Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: "contoso"}}
	kept := func(test *integrationv1.ConnectivityTest) {
		t.Helper()
		found, err := client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
		if err != nil || !proto.Equal(found.GetIntegration().GetStatus().GetLastTest(), test) {
			t.Errorf("the test that is kept is %v, %v; want %v", found.GetIntegration().GetStatus().GetLastTest(), err, test)
		}
	}
	kept(nil)

	response, err := client.TestConnectivity(t.Context(), request)
	if err != nil || response.GetTechnology() == "" || response.GetServiceVersion() != "v0.0.0-test" {
		t.Fatalf("%v, %v", response, err)
	}
	want{
		fails: "TOKEN API", seen: "Entra gave no token: the client secret is wrong", remedy: "Give the secret's Value, not its Secret ID.",
		reason: notAuthentic, code: "AADSTS7000215",
	}.check(t, response.GetTest(), w)
	kept(response.GetTest())
	golden(t, registeredName, w.written("A registered integration, whose client secret is wrong.", response.GetTest()))

	w.app.AddSecret("88888888-0000-4000-8000-000000000000", w.microsoft.Now().AddDate(1, 0, 0))
	if response, err = client.TestConnectivity(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	want{}.check(t, response.GetTest(), w)
	kept(response.GetTest())
}
