// Package image_test runs the steps of the Dockerfile without a container engine: those of the build stage in an empty root, with what
// its base image would bring bound into it, and what comes out as a container is run: as its user, on a read-only root, with its health
// check. It needs Linux and root, and says so where it is skipped.
package image_test
