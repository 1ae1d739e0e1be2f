package main

import "defender-integration/store"

// storeFlags are the flags that say where a command finds a store on a NATS cluster.
type storeFlags struct {
	options store.Options
	tags    listValue
}

// declare declares the flags of the cluster.
func (f *storeFlags) declare(flags *flagSet) {
	flags.StringVar(&f.options.URL, "nats-url", "",
		"keep data on the NATS server or cluster at this `URL` instead of in --data-dir, with commas between several. On another machine than\n"+
			"this one it is spoken to over TLS")
	f.reaching(flags)
	f.placing(flags)
}

// reaching declares the flags of how the cluster is reached and trusted.
func (f *storeFlags) reaching(flags *flagSet) {
	flags.StringVar(&f.options.Access.CA, "nats-ca", "", "trust a cluster with certificates of the authorities in this PEM `file`. Default: the system's")
	flags.StringVar(&f.options.Access.Certificate, "nats-cert", "", "the PEM `file` with the certificate to show the cluster, where it wants one")
	flags.StringVar(&f.options.Access.Key, "nats-key", "", "the PEM `file` with that certificate's key")
	flags.StringVar(&f.options.Access.Credentials, "nats-creds", "", "the credentials `file` of the cluster's user, with its JWT and key")
	flags.StringVar(&f.options.Access.NKey, "nats-nkey", "", "the `file` with the seed of the nkey of the cluster's user, where it has no JWT")
	flags.BoolVar(&f.options.Access.Insecure, "nats-insecure", false, "let a cluster on other machines be spoken to in clear: alerts, and a password in --nats-url, can be read on the way")
	flags.StringVar(&f.options.Prefix, "nats-prefix", "defender", "begin the names of streams and buckets with this `text`")
}

// placing declares the flags of where and how often entries are kept.
func (f *storeFlags) placing(flags *flagSet) {
	flags.IntVar(&f.options.Replicas, "nats-replicas", 1,
		"how many servers of the cluster keep each entry: 3, so that it goes on without one of them. What is there gets more, never fewer")
	flags.StringVar(&f.options.PlacementCluster, "nats-placement-cluster", "", "keep entries on servers of the cluster of this `name`, where several are connected")
	flags.Var(&f.tags, "nats-placement-tag", "keep entries on servers with this `tag`. It can be given several times; in the environment, with commas between")
	flags.Int64Var(&f.options.JournalMaxBytes, "nats-max-bytes", 0,
		"how many `bytes` each journal may take on the cluster, more than --retention-bytes; 0: only the cluster's limits count")
}

// get returns the options that the flags say, checked.
func (f *storeFlags) get() (store.Options, error) {
	o := f.options
	o.PlacementTags = f.tags
	switch {
	case o.Replicas < 1 || o.Replicas > 5:
		return store.Options{}, usagef("--nats-replicas is %d and must be between 1 and 5; 3 is right for nearly everyone", o.Replicas)
	case o.JournalMaxBytes < 0:
		return store.Options{}, usagef("--nats-max-bytes is %d and must not be less than nothing", o.JournalMaxBytes)
	}
	return o, nil
}
