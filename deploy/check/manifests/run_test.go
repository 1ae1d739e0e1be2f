package manifests_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// top is the folder of the service's module.
	top = "../../.."
	// patience is how long the service has for what is expected of it. It bounds a failing test, never a passing one.
	patience = 2 * time.Minute
	// asks is how long healthcheck waits for an answer, unless it is told otherwise.
	asks = 5 * time.Second
)

// ours returns the service's containers.
func ours(pod *corev1.PodTemplateSpec) []corev1.Container {
	var found []corev1.Container
	for _, c := range containers(pod) {
		if strings.Contains(c.Image, "/defender-integration:") {
			found = append(found, c)
		}
	}
	return found
}

// TestContainersRun runs the service as each manifest says: with its flags and variables, on folders that are filled as its volumes are.
// Its probes pass, the integrations of its ConfigMap are valid, and it ends in order within the pod's time.
func TestContainersRun(t *testing.T) {
	program := build(t)
	variables := knownVariables(t, program)
	seen := 0
	for _, folder := range kustomizations(t) {
		objects := load(t, folder)
		for name, pod := range pods(objects) {
			for _, c := range ours(pod) {
				if strings.Contains(strings.Join(c.Args, " "), "--nats-url") {
					continue // It needs a cluster.
				}
				seen++
				t.Run(filepath.Base(folder)+" "+name, func(t *testing.T) {
					for _, v := range c.Env {
						if strings.HasPrefix(v.Name, "DEFENDER_INTEGRATION_") && !variables[v.Name] {
							t.Errorf("no flag has the variable %s", v.Name)
						}
					}
					runContainer(t, program, newBox(t, objects, pod, c), pod, c)
				})
			}
		}
	}
	if seen < 2 {
		t.Errorf("%d containers were run", seen)
	}
}

// build builds the service.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "defender-integration")
	command := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/defender-integration")
	command.Dir = top
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// knownVariables returns the variables that the help of the commands names.
func knownVariables(t *testing.T, program string) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, name := range []string{"serve", "healthcheck"} {
		help, err := exec.CommandContext(t.Context(), program, name, "--help").Output()
		must(t, err)
		for _, found := range regexp.MustCompile(`Environment: (\S+)`).FindAllStringSubmatch(string(help), -1) {
			known[found[1]] = true
		}
	}
	return known
}

// runContainer runs a container of the service.
func runContainer(t *testing.T, program string, b *box, pod *corev1.PodTemplateSpec, c corev1.Container) {
	t.Helper()
	// Microsoft is not called from here: all ways lead to a port of this machine where nobody listens.
	env := []string{"HTTPS_PROXY=http://127.0.0.1:1"}
	for _, v := range c.Env {
		env = append(env, v.Name+"="+b.path(v.Value))
	}
	var arguments, validate []string
	for _, a := range c.Args {
		// Any port will do.
		a = regexp.MustCompile(`^(--(listen|metrics-address)=.*):\d+$`).ReplaceAllString(b.path(a), "$1:0")
		arguments = append(arguments, a)
		if strings.HasPrefix(a, "--integrations=") || strings.HasPrefix(a, "--secrets-dir=") || strings.HasPrefix(a, "--secret-env=") {
			validate = append(validate, a)
		}
		if drain, ok := strings.CutPrefix(a, "--drain-timeout="); ok {
			needs, err := time.ParseDuration(drain)
			must(t, err)
			if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace <= needs {
				t.Errorf("the pod has %s to end, and draining alone may take %s", grace, needs)
			}
		}
	}
	valid := exec.CommandContext(t.Context(), program, append([]string{"validate"}, validate...)...)
	valid.Env = env
	if output, err := valid.CombinedOutput(); err != nil {
		t.Errorf("its integrations: %v\n%s", err, output)
	}

	service := exec.CommandContext(context.WithoutCancel(t.Context()), program, arguments...)
	service.Dir, service.Env = b.dir, env
	service.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	service.Stdout, service.Stderr = &log, &log
	must(t, service.Start())
	ended := make(chan error, 1)
	go func() { ended <- service.Wait() }()
	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
		if probe == nil || probe.Exec == nil || probe.Exec.Command[0] != "/defender-integration" {
			t.Fatalf("%s is not probed by the program", name)
		}
		if limit := time.Duration(probe.TimeoutSeconds) * time.Second; limit <= asks {
			t.Errorf("%s: healthcheck is cut off after %s, before it says what is wrong", name, limit)
		}
		passes(t, program, name, env, probe, ended, &log)
	}
	must(t, service.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v\n%s", err, &log)
		}
	case <-time.After(time.Duration(*pod.Spec.TerminationGracePeriodSeconds)*time.Second + patience):
		t.Error("it does not end")
	}
	if _, err := os.Stat(filepath.Join(b.path("/data"), "sealing.key")); err != nil {
		t.Errorf("its data is not in the volume: %v", err)
	}
}

// passes waits until a probe passes.
func passes(t *testing.T, program, name string, env []string, probe *corev1.Probe, ended <-chan error, log *bytes.Buffer) {
	t.Helper()
	deadline := time.After(patience)
	for {
		check := exec.CommandContext(t.Context(), program, probe.Exec.Command[1:]...)
		check.Env = env
		output, err := check.CombinedOutput()
		if err == nil {
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended with %v\n%s", err, log)
		case <-deadline:
			t.Fatalf("%s: %v\n%s", name, err, output)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
