// Package manifests_test checks the manifests of deploy/: what kustomize makes of them is decoded as strictly as Kubernetes does, defaulted
// and validated by Kubernetes' own code, held to the restricted standard for pods, and its names must lead somewhere. The service's
// containers are then run as the manifests say, with their flags, files, variables and probes.
package manifests_test
