package entra

import (
	"strings"
	"testing"

	"defender-integration/defender/defendertest"
)

func TestSecretFileIsReadAgain(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.withSecret("client-secret")
	w.write("client-secret", "old")
	source := w.source()
	_, err := source.Token(t.Context())
	if e := wantError(t, err); e.Problem.GetUpstreamCode() != "AADSTS7000215" {
		t.Errorf("problem is %v", e.Problem)
	}
	w.write("client-secret", plantedSecret)
	if _, err := source.Token(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSecretFileThatCannotBeUsed(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.write("blank", " \n\t")
	w.write("empty", "")
	for file, words := range map[string]string{"blank": "white space alone", "empty": "it is empty", "nothing": "does not exist", "../x": "`..`"} {
		w.withSecret(file)
		source := w.source()
		_, err := source.Token(t.Context())
		e := wantError(t, err)
		if !strings.Contains(e.Problem.GetMessage(), words) || !e.Permanent {
			t.Errorf("%s: problem is %v, want it to say %q", file, e.Problem, words)
		}
		if _, inspected := source.Inspect(t.Context()); inspected == nil || inspected.Error() != err.Error() {
			t.Errorf("%s: Inspect says %v, want %v", file, inspected, err)
		}
	}
	w.withSecret("client-secret")
	w.config.Files = nil
	_, err := w.source().Token(t.Context())
	if e := wantError(t, err); !strings.Contains(e.Problem.GetRemedy(), "--secrets-dir") {
		t.Errorf("problem is %v, want it to name the flag", e.Problem)
	}
	if w.asked() != 0 {
		t.Errorf("%d tokens were asked for", w.asked())
	}
}

func TestInspectSecret(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.withSecret("client-secret")
	w.write("client-secret", plantedSecret)
	found, err := w.source().Inspect(t.Context())
	if want := (Inspection{Kind: "a client secret", File: "client-secret"}); err != nil || found != want {
		t.Errorf("found %+v, error %v; want %+v", found, err, want)
	}
}
