// A parent in Go, for benchmarks/golang.py. It reads ways, a line each, starts /bin/true twice in that way,
// waits for its end, and prints the milliseconds of the second run.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

func start(way string) {
	command := exec.Command("/bin/true")
	if way == "pdeathsig" {
		runtime.LockOSThread() // Pdeathsig follows the thread: golang/go#27505
		defer runtime.UnlockOSThread()
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		start(lines.Text())
		begin := time.Now()
		start(lines.Text())
		fmt.Printf("%.6f\n", time.Since(begin).Seconds()*1e3)
	}
}
