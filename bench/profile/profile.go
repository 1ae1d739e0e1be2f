//go:build profile

// Package main is a part of the service's program in builds that bench makes for profiling, and of nothing else: see build.go
// in the folder above.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
)

// init profiles the processor from the start. At SIGUSR1 it writes cpu.pprof, and then allocs.pprof, which has what was allocated
// and what is in use, to the folder that BENCH_PROFILE names.
func init() {
	folder := os.Getenv("BENCH_PROFILE")
	if folder == "" {
		return
	}
	runtime.MemProfileRate = 64 << 10
	cpu, err := os.Create(filepath.Join(folder, "cpu.pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(cpu)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		<-asked
		pprof.StopCPUProfile()
		_ = cpu.Close()
		runtime.GC()
		if err := writeAllocs(folder); err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
	}()
}

// writeAllocs writes the profile whole or not at all, since it is what bench waits for.
func writeAllocs(folder string) error {
	name := filepath.Join(folder, "allocs.pprof")
	file, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	if err := pprof.Lookup("allocs").WriteTo(file, 0); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}
