package acceptance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"defender-integration/acceptance/process"
	"defender-integration/store"
)

// configurationBlock is a marked block of docs/configuration.md.
type configurationBlock struct {
	line             int
	kind, mark, text string
	language         string
}

// configurationBlocks returns the blocks, indented or not. Each must be marked.
func configurationBlocks(t *testing.T) []configurationBlock {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(process.Root(t), "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []configurationBlock
	var open *configurationBlock
	mark := ""
	for i, line := range strings.Split(string(data), "\n") {
		trimmed := strings.TrimSpace(line)
		language, fence := strings.CutPrefix(trimmed, "```")
		switch {
		case open != nil && fence:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += line + "\n"
		case fence && mark == "":
			t.Errorf("configuration.md:%d: no test runs this block: put <!-- page:… --> before it", i+1)
		case fence:
			kind, rest, _ := strings.Cut(mark, " ")
			open, mark = &configurationBlock{line: i + 2, kind: kind, mark: rest, language: language}, ""
		case strings.HasPrefix(trimmed, "<!-- page:"):
			mark = strings.TrimSuffix(strings.TrimPrefix(trimmed, "<!-- page:"), " -->")
		}
	}
	return blocks
}

// TestConfigurationPage runs the blocks of docs/configuration.md one after the other:
//
//	<!-- page:file NAME -->     a file of --integrations
//	<!-- page:expect TEXT -->   a command that ends with status 0 and prints TEXT
//	<!-- page:refused TEXT -->  a command that fails and prints TEXT
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "integrations"), 0o700); err != nil {
		t.Fatal(err)
	}
	// What the page takes as given: a data directory and a cluster that were used with their keys.
	sealedStore(t, store.Options{Dir: filepath.Join(dir, "data")}, filepath.Join(dir, "data", "sealing.key"))
	url := natsServer(t)
	sealedStore(t, store.Options{URL: url}, filepath.Join(dir, "cluster.key"))
	shell := process.Shell{Dir: dir, Path: filepath.Dir(service(t))}
	run := 0
	for _, b := range configurationBlocks(t) {
		command := strings.ReplaceAll(b.text, "nats://127.0.0.1:4222", url)
		switch b.kind {
		case "file":
			if err := os.WriteFile(filepath.Join(dir, "integrations", b.mark), []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		case "expect":
			if output := shell.Run(t, command)[0]; !strings.Contains(output, b.mark) {
				t.Errorf("configuration.md:%d: the output has no %s:\n%s", b.line, b.mark, output)
			}
		case "refused":
			if output := shell.Refused(t, command); !strings.Contains(output, b.mark) {
				t.Errorf("configuration.md:%d: the output has no %s:\n%s", b.line, b.mark, output)
			}
		default:
			t.Errorf("configuration.md:%d: page:%s is not known", b.line, b.kind)
		}
		run++
	}
	if run != 6 {
		t.Errorf("%d commands were run, want 6", run)
	}
}

// sealedStore makes a store with a mark that a new key in the file sealed.
func sealedStore(t *testing.T, options store.Options, keyFile string) {
	t.Helper()
	s, err := store.OpenJetStream(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	sealer, err := store.OpenSealer(keyFile, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealer.CheckKey(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// natsServer starts a NATS server in this process and returns its URL.
func natsServer(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	return fmt.Sprint(s.ClientURL())
}
