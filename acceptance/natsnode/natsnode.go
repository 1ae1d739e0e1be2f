// Package natsnode writes the configuration of NATS servers that make a cluster on this machine, for whoever starts them as processes.
package natsnode

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Package is the Go package of the server's program.
const Package = "github.com/nats-io/nats-server/v2"

// Count is how many servers make a cluster.
const Count = 3

// Ports is how many ports they take: first those for clients, then those for each other.
const Ports = 2 * Count

// Configure writes the configuration of a server of a cluster into a folder, where its data go too, and returns the file. The server writes
// everything at once. All are among its routes, itself too: their number tells how many make a majority.
func Configure(dir string, ports []int, i int) (string, error) {
	text := fmt.Sprintf(`
server_name: node-%d
listen: "127.0.0.1:%d"
jetstream: {store_dir: %q, sync_interval: always}
cluster: {
	name: acceptance
	listen: "127.0.0.1:%d"
	routes: [%s]
}
`, i, ports[i], filepath.Join(dir, fmt.Sprint(i)), ports[Count+i], `"`+strings.Join(urls(ports[Count:]), `", "`)+`"`)
	file := filepath.Join(dir, fmt.Sprintf("node-%d.conf", i))
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// URL is where clients reach the cluster.
func URL(ports []int) string { return strings.Join(urls(ports[:Count]), ",") }

func urls(ports []int) []string {
	var all []string
	for _, port := range ports {
		all = append(all, fmt.Sprint("nats://127.0.0.1:", port))
	}
	return all
}
