package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// build builds the service. With profiling, one file of this folder is laid over the program, so that what is profiled is the
// program itself and it needs no door for it.
func build(ctx context.Context, to string, profiling bool) error {
	const program = "defender-integration/cmd/defender-integration"
	args := []string{"build", "-o", to}
	if profiling {
		overlay, err := writeOverlay(ctx, program, to+".overlay.json")
		if err != nil {
			return err
		}
		args = append(args, "-tags", "profile", "-overlay", overlay)
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, program)...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the service: %w\n%s", err, out)
	}
	return nil
}

// writeOverlay writes what lays profile/profile.go over the program's folder.
func writeOverlay(ctx context.Context, program, to string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", program, "defender-integration/bench").Output()
	if err != nil {
		return "", fmt.Errorf("find the program's folder: %w", err)
	}
	folders := strings.Fields(string(out))
	if len(folders) != 2 {
		return "", fmt.Errorf("find the program's folder: go list says %q", out)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(folders[0], "profile_overlay.go"): filepath.Join(folders[1], "profile", "profile.go"),
	}})
	if err != nil {
		return "", err
	}
	return to, os.WriteFile(to, overlay, 0o600)
}

// takeProfile makes a service that was built for it write its profiles, and waits until they are there.
func (c *child) takeProfile(ctx context.Context, folder string) error {
	if err := c.signal(); err != nil {
		return fmt.Errorf("ask for the profiles: %w", err)
	}
	for {
		_, err := os.Stat(filepath.Join(folder, "allocs.pprof"))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
